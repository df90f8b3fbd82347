"""Fill the place of a removed object with what could stand behind it.

The patch nearby whose surroundings look most alike is cloned into the hole, and what is left of a
step at the edge is spread smoothly over it (Pérez et al., "Poisson image editing", 2003). Texture
and grain continue, which biharmonic or diffusion inpainting blur; where no patch is free, this is
diffusion.
"""

from __future__ import annotations

import numpy as np
import scipy

RING_PX = 4
"""Width of the surroundings that are compared."""
REACH_PX = 64
"""A patch comes from no farther than this, beside the hole's own size."""


def inpaint(image: np.ndarray, hole: np.ndarray, avoid: np.ndarray) -> np.ndarray:
    """The image with its hole filled; the rest is unchanged.

    Args:
        image: (H, W, C) float.
        hole: (H, W) bool, what is to be filled; not the whole image.
        avoid: (H, W) bool, pixels that no patch may come from, such as other objects.
    """
    filled = image.copy()
    window = _window(hole)
    part, hole = filled[window], hole[window]  # a view: what is written there, is in ``filled``
    source = _best_source(part, hole, avoid[window])
    if source is None:
        part[hole] = _membrane(part, hole)
    else:
        part[hole] = source[hole] + _membrane(part - source, hole)
    return filled


def _window(hole: np.ndarray) -> tuple[slice, slice]:
    """The part of the image that is looked at."""
    (box,) = scipy.ndimage.find_objects(hole.astype(np.uint8))
    reach = REACH_PX + max(side.stop - side.start for side in box)
    rows, columns = (slice(max(0, side.start - reach), side.stop + reach) for side in box)
    return rows, columns


def _best_source(image: np.ndarray, hole: np.ndarray, avoid: np.ndarray) -> np.ndarray | None:
    """The image, shifted so that the hole shows the patch that fits best; None if none is free."""
    from scipy import signal  # it takes a second to import: who plans or reads pairs goes without

    ring = scipy.ndimage.binary_dilation(hole, iterations=RING_PX) & ~hole
    height, width = hole.shape

    def correlate(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Sum of weights(p) values(p + shift), for each shift from -(H - 1, W - 1) on."""
        return signal.fftconvolve(values, weights[::-1, ::-1])

    needed = (hole | ring).astype(float)
    free = correlate((~(hole | avoid)).astype(float), needed) > needed.sum() - 0.5
    if not free.any():
        return None
    weights = ring.astype(float)
    cost = correlate((image**2).sum(axis=-1), weights)
    for channel in np.moveaxis(image, -1, 0):
        cost -= 2 * correlate(channel, channel * weights)
    best = np.argmin(np.where(free, cost, np.inf))
    dy, dx = np.unravel_index(best, cost.shape) - np.array([height - 1, width - 1])
    return np.roll(image, (-dy, -dx), axis=(0, 1))


def _membrane(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The harmonic function in the hole that takes the values around it; (N, C) for its pixels.

    At the image's edge it is free.
    """
    padded = np.pad(hole, 1)
    number = np.full(padded.shape, -1)
    number[padded] = np.arange(hole.sum())
    inside = np.pad(np.ones(hole.shape, bool), 1)
    ys, xs = np.nonzero(padded)
    around = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    degree = np.zeros(len(ys))
    known = np.zeros((len(ys), values.shape[-1]))
    rows, columns = [], []
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        there = inside[ys + dy, xs + dx]
        unknown = padded[ys + dy, xs + dx]
        degree += there
        rows.append(np.flatnonzero(unknown))
        columns.append(number[ys + dy, xs + dx][unknown])
        known += np.where((there & ~unknown)[:, None], around[ys + dy, xs + dx], 0.0)
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = scipy.sparse.csc_matrix((-np.ones(len(row)), (row, column)), shape=(len(ys), len(ys)))
    return scipy.sparse.linalg.splu(matrix + scipy.sparse.diags(degree, format="csc")).solve(known)
