"""Both images of a plan; of image B only what can differ from image A is rendered."""

from __future__ import annotations

import numpy as np
import scipy

from dig_env.scenes.measure.pair import PairImages
from dig_env.scenes.plans.plan import PairPlan
from dig_env.scenes.render.influence import influence_mask
from dig_env.scenes.render.passes import Denoiser, Window
from dig_env.scenes.render.process import RenderRequest, WorkerProcess

TILE_PX = 4
"""Image B is rendered in whole tiles of this side."""
COVER_INSET_PX = 0.02
"""Covers end this far inside their tiles, since a ray on the edge could fall on either side."""
CONTEXT_PX, DENOISER_STEP_PX = 16, 16
"""What the denoiser sees around a part, and the grid of its coarsest level."""
SEAM_LEVELS = 12.0
"""Largest step, in 8-bit levels, that the rim of the rendered part may show against image A. It is
about three standard deviations of the noise that "standard" leaves."""


def render_pair(
    plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser, timeout_s: float
) -> PairImages:
    """Both pictures of a plan, B without nuisance and rendered only where it can differ from A.

    If the rim of the rendered part differs from image A, the part was too small, and all of B is
    rendered. So the bytes depend on the plan alone.
    """
    height, width = worker.height, worker.width
    view = (plan.camera, plan.lights, plan.scenery)
    # Blender never waits: A is rendered while B's part is found, B while A is denoised.
    asked_a = worker.submit(*view, RenderRequest(plan.scene_a))
    if not plan.changes:
        passes_a = worker.receive(asked_a, timeout_s)
        image_a = denoiser.denoise(passes_a)
        return image_a, passes_a.ids, image_a.copy(), passes_a.ids
    mask = _whole_tiles(influence_mask(plan, width, height))
    if not mask.any():
        mask[:] = True  # a change out of sight: label_pair will say so
    window = Window.around(mask)
    asked_b = worker.submit(*view, RenderRequest(plan.scene_b, window, covers(mask)))
    passes_a = worker.receive(asked_a, timeout_s)
    image_a = denoiser.denoise(passes_a)
    part = worker.receive(asked_b, timeout_s)
    passes_b = passes_a.replaced(part, window, mask)
    context = window.widened(CONTEXT_PX, DENOISER_STEP_PX, width, height)
    image_b = image_a.copy()
    within = mask[context.slices]
    image_b[context.slices][within] = denoiser.denoise(passes_b.crop(context))[within]
    if seam(image_a, image_b, mask) > SEAM_LEVELS:
        (passes_b,) = worker.render(*view, [RenderRequest(plan.scene_b)], timeout_s)
        image_b = denoiser.denoise(passes_b)
    return image_a, passes_a.ids, image_b, passes_b.ids


def render_pair_whole(
    plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser, timeout_s: float
) -> PairImages:
    """Both pictures of a plan, each rendered as a whole."""
    requests = (RenderRequest(plan.scene_a), RenderRequest(plan.scene_b))
    a, b = worker.render(plan.camera, plan.lights, plan.scenery, requests, timeout_s)
    return denoiser.denoise(a), a.ids, denoiser.denoise(b), b.ids


def render_b(
    plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser, timeout_s: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Image B and its ids by the camera and the lights of the plan's nuisance.

    None when they are those of image A.
    """
    view = (plan.camera_b, plan.lights_b)
    if view == (plan.camera, plan.lights):
        return None
    (passes,) = worker.render(*view, plan.scenery, [RenderRequest(plan.scene_b)], timeout_s)
    return denoiser.denoise(passes), passes.ids


def covers(mask: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    """Rectangles (x0, y0, x1, y1) in pixels over what need not be rendered.

    Args:
        mask: (H, W) bool of what must be, constant over each tile.
    """
    height = len(mask)
    open_rows: dict[tuple[int, int], int] = {}
    found = []
    for y in range(0, height + TILE_PX, TILE_PX):
        runs = _runs(~mask[y]) if y < height else []
        for x0, x1 in [run for run in open_rows if run not in runs]:
            found.append((x0, open_rows.pop((x0, x1)), x1, min(y, height)))
        for run in runs:
            open_rows.setdefault(run, y)
    inset = COVER_INSET_PX
    return tuple((x0 + inset, y0 + inset, x1 - inset, y1 - inset) for x0, y0, x1, y1 in found)


def seam(image_a: np.ndarray, image_b: np.ndarray, mask: np.ndarray) -> float:
    """How far the two images differ at the rim of the part that was rendered again.

    Args:
        image_a, image_b: (H, W, 3) uint8.
        mask: (H, W) bool, the part.

    Returns:
        8-bit levels: the largest 3 x 3 mean within two pixels of the part's edge (the picture's
        own edges do not count).
    """
    step = np.abs(image_a.astype(np.int16) - image_b).max(axis=-1).astype(np.float32)
    rim = mask & ~scipy.ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=2, border_value=1)
    return float(scipy.ndimage.uniform_filter(step, 3)[rim].max(initial=0.0))


def _whole_tiles(mask: np.ndarray) -> np.ndarray:
    """The mask grown to whole tiles."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % TILE_PX), (0, -width % TILE_PX)))
    rows, columns = padded.shape[0] // TILE_PX, padded.shape[1] // TILE_PX
    tiles = padded.reshape(rows, TILE_PX, columns, TILE_PX).any(axis=(1, 3))
    return tiles.repeat(TILE_PX, axis=0).repeat(TILE_PX, axis=1)[:height, :width]


def _runs(row: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each run of true values in a bool row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
