"""One pass over the memory for what a U-Net does on its way up: enlarge by two, and put the skip beside it.

A Triton kernel (NVIDIA). torch.compile makes six passes of the same, a fifth of the whole network's time on
an H200. Every number is read once and written once, in channels-last memory, as cuDNN wants to be fed.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["can_join", "enlarged_and_joined"]

NUMBERS_A_PROGRAM = 4096
"""Of the enlarged image, computed by one program: columns times channels."""


@triton.jit  # type: ignore[untyped-decorator] # Triton has no types, and its kernels take pointers
def _enlarge_and_join(  # type: ignore[no-untyped-def] # as above
    coarse,  # noqa: ANN001 # as above
    skip,  # noqa: ANN001
    joined,  # noqa: ANN001
    height,  # noqa: ANN001
    width,  # noqa: ANN001
    C: tl.constexpr,
    S: tl.constexpr,
    P: tl.constexpr,
) -> None:
    """Write P columns of one row of (B, 2H, 2W, C + S) from (B, H, W, C) and (B, 2H, 2W, S)."""
    row = tl.program_id(0).to(tl.int64)  # b * 2H + y
    columns = tl.program_id(1) * P + tl.arange(0, P)
    inside = (columns < 2 * width)[:, None]
    y = row % (2 * height)
    top = row // (2 * height) * height  # the image's first row in the coarse one
    near_row = (top + y // 2) * width
    far_row = (top + tl.minimum(tl.maximum(y // 2 + y % 2 * 2 - 1, 0), height - 1)) * width
    near = columns // 2
    far = tl.minimum(tl.maximum(near + columns % 2 * 2 - 1, 0), width - 1)
    c = tl.arange(0, C)[None, :]
    a = tl.load(coarse + (near_row + near)[:, None] * C + c, mask=inside).to(tl.float32)
    b = tl.load(coarse + (near_row + far)[:, None] * C + c, mask=inside).to(tl.float32)
    d = tl.load(coarse + (far_row + near)[:, None] * C + c, mask=inside).to(tl.float32)
    e = tl.load(coarse + (far_row + far)[:, None] * C + c, mask=inside).to(tl.float32)
    enlarged = 0.5625 * a + 0.1875 * (b + d) + 0.0625 * e
    pixels = (row * 2 * width + columns)[:, None]
    tl.store(joined + pixels * (C + S) + c, enlarged.to(joined.dtype.element_ty), mask=inside)
    s = tl.arange(0, S)[None, :]
    beside = tl.load(skip + pixels * S + s, mask=inside)
    tl.store(joined + pixels * (C + S) + C + s, beside, mask=inside)


def can_join(channels: int) -> bool:
    """Say whether the kernel is written for so many channels of each: a power of two."""
    return channels > 0 and channels & (channels - 1) == 0


def enlarged_and_joined(x: Tensor, skip: Tensor) -> Tensor:
    """Return bilinear enlargement and skip side by side.

    Parameters
    ----------
    x
        (B, C, H, W), on the GPU.
    skip
        (B, S, 2H, 2W), of the same type.

    Returns
    -------
    Tensor
        (B, C + S, 2H, 2W), channels last in memory.
    """
    batch, channels, height, width = x.shape
    coarse = x.permute(0, 2, 3, 1).contiguous()  # (B, H, W, C); of channels-last memory no copy
    beside = skip.permute(0, 2, 3, 1).contiguous()
    beside_channels = skip.shape[1]
    joined = torch.empty(
        (batch, 2 * height, 2 * width, channels + beside_channels), dtype=x.dtype, device=x.device
    )
    columns = max(1, NUMBERS_A_PROGRAM // channels)
    grid = (batch * 2 * height, triton.cdiv(2 * width, columns))
    _enlarge_and_join[grid](
        coarse, beside, joined, height, width, C=channels, S=beside_channels, P=columns, num_warps=8
    )
    return joined.permute(0, 3, 1, 2)
