"""Random streams by place: what makes a specimen unbounded and the same however it is cut.

Everything about one node of a lattice is drawn from a stream of its own, so any part can be made without the
rest.
"""

import numpy as np

__all__ = ["stream_of"]


def stream_of(seed: int, node: tuple[int, ...], kind: int) -> np.random.Generator:
    """Return the random stream of a lattice node.

    Parameters
    ----------
    node
        Its indices, of either sign.
    kind
        Tells apart what is drawn at the same node.
    """
    key = [2 * abs(index) + (index < 0) for index in node]  # a stream's key is not negative
    return np.random.default_rng([seed, *key, kind])
