"""From block-wise shifts with confidences to one smooth displacement field.

Owns the regularised fit on the lattice of blocks, which follows confident blocks, damps outliers and runs
on smoothly over blocks without texture, and the cubic spline from the lattice to the pixels. Knows no
images.
"""

from functools import lru_cache

import numpy as np
from scipy import interpolate, sparse
from scipy.sparse.linalg import SuperLU, splu

from training.pairing.sampling import FloatArray

__all__ = ["fit_lattice", "smallest_jacobian", "spread"]

BENDING = 0.01
"""Weight of the bending energy against a fully confident block: a displacement of period 4 blocks is
damped by a few percent, which the next iteration takes up. Fits of a whole field scale it."""
STRETCHING = 1e-4
"""Weight of the gradient: keeps the field flat far from any confident block."""
OUTLIER_ROUNDS = 1


def fit_lattice(
    shift_yx_px: FloatArray, information: FloatArray, outlier_px: float, stiffness: float = 1.0
) -> FloatArray:
    """Fit a smooth vector field to the shifts of a lattice of blocks.

    The field u minimises the sum of (u - d)^T W (u - d) over the blocks plus bending energy (a thin plate
    on the lattice). W may say much of one direction and nothing of the other, which the neighbours then
    decide. It is reweighted so that a block that disagrees with its surroundings by more than
    `outlier_px` loses its say.

    Parameters
    ----------
    shift_yx_px
        d, (2, N, M).
    information
        (3, N, M), the elements yy, xx, yx of W; 0 for a block that says nothing.
    stiffness
        Factor on the bending energy.

    Returns
    -------
    FloatArray
        (2, N, M); zero everywhere where no block says anything.
    """
    trace = information[0] + information[1]
    if not (trace > 0).any():
        return np.zeros_like(shift_yx_px)
    typical = float(np.quantile(trace[trace > 0], 0.75))
    weight = (information / np.maximum(trace, typical)).astype(np.float64)  # (3, N, M), trace at most 1
    plate = sparse.block_diag([_plate(*trace.shape, stiffness)] * 2)
    robust = np.ones(trace.shape)
    for _ in range(OUTLIER_ROUNDS + 1):
        yy, xx, yx = (robust * weight).reshape(3, -1)
        data = sparse.block_array([[_diagonal(yy), _diagonal(yx)], [_diagonal(yx), _diagonal(xx)]])
        d_y, d_x = shift_yx_px.reshape(2, -1).astype(np.float64)
        right = np.concatenate([yy * d_y + yx * d_x, yx * d_y + xx * d_x])
        fitted = _factorised((plate + data).tocsc()).solve(right).reshape(shift_yx_px.shape)
        m_y, m_x = shift_yx_px - fitted
        squared = weight[0] * m_y**2 + weight[1] * m_x**2 + 2 * weight[2] * m_y * m_x
        robust = 1.0 / (1.0 + squared / (outlier_px**2 * np.maximum(weight[0] + weight[1], 1e-12)))
    return np.asarray(fitted, dtype=np.float32)


def _factorised(matrix: sparse.csc_array) -> SuperLU:
    """Factorise a symmetric, positive definite matrix; to say that it is one makes it three times as fast."""
    return splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


def _diagonal(values: np.ndarray) -> sparse.csc_array:
    return sparse.csc_array(sparse.diags_array(values))


@lru_cache(maxsize=64)
def _plate(rows: int, columns: int, stiffness: float) -> sparse.csc_array:
    """Return the quadratic form of bending and stretching on a lattice, (N * M, N * M)."""
    along_y, along_x = sparse.eye_array(rows), sparse.eye_array(columns)
    first_y, first_x = _difference(rows, 1), _difference(columns, 1)
    bends = [
        (sparse.kron(_difference(rows, 2), along_x), 1.0),
        (sparse.kron(along_y, _difference(columns, 2)), 1.0),
        (sparse.kron(first_y, first_x), 2.0),
    ]
    stretches = [sparse.kron(first_y, along_x), sparse.kron(along_y, first_x)]
    form = sum(factor * stiffness * BENDING * (d.T @ d) for d, factor in bends)
    form = form + sum(STRETCHING * (d.T @ d) for d in stretches)
    return sparse.csc_array(form + 1e-9 * sparse.eye_array(rows * columns))


def _difference(count: int, order: int) -> sparse.csc_array:
    """Return the matrix of first or second differences, (max(count - order, 0), count)."""
    matrix = np.diff(np.eye(count), n=order, axis=0) if count > order else np.zeros((0, count))
    return sparse.csc_array(matrix)


def spread(
    lattice: FloatArray,
    rows_px: FloatArray,
    columns_px: FloatArray,
    shape_yx: tuple[int, int],
    degree: int = 3,
) -> FloatArray:
    """Interpolate a lattice of values to every pixel by a spline.

    Parameters
    ----------
    lattice
        (C, N, M).
    rows_px, columns_px
        Pixel indices of the lattice's rows and columns, increasing; pixels must lie between the
        outermost.

    Returns
    -------
    FloatArray
        (C, Y, X).
    """
    down = _spline_matrix(rows_px, shape_yx[0], degree)  # (Y, N)
    across = _spline_matrix(columns_px, shape_yx[1], degree)  # (X, M)
    # einsum, not a matrix product: for lattices this small the threads of a BLAS cost more than they save.
    narrow = np.einsum("yn,cnm->cym", down, lattice)
    return np.asarray(np.einsum("cym,xm->cyx", narrow, across))


def _spline_matrix(nodes_px: FloatArray, count: int, degree: int) -> FloatArray:
    """Return the linear map from node values to values at pixels 0 to count - 1, (count, nodes)."""
    spline = interpolate.make_interp_spline(nodes_px, np.eye(len(nodes_px)), k=min(degree, len(nodes_px) - 1))
    return np.asarray(spline(np.arange(count)), dtype=np.float32)


def smallest_jacobian(displacement_yx_px: FloatArray) -> float:
    """Return the least Jacobian determinant of q -> q + displacement; where it is not positive, q folds over.

    Parameters
    ----------
    displacement_yx_px
        (2, Y, X) on a grid of one pixel.
    """
    dy_dy, dy_dx = np.gradient(displacement_yx_px[0])
    dx_dy, dx_dx = np.gradient(displacement_yx_px[1])
    return float(((1 + dy_dy) * (1 + dx_dx) - dy_dx * dx_dy).min())
