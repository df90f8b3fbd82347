"""Both images of a plan; of image B only what can differ from image A is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from dig_env.scenes.families.scenery import Camera, Light
from dig_env.scenes.measure.pair import PairImages
from dig_env.scenes.plans.plan import PairPlan, SceneObject
from dig_env.scenes.render.influence import detail_mask, influence_mask
from dig_env.scenes.render.passes import Denoiser, RenderPasses, Window
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
    camera = _Camera(plan, worker, plan.camera, plan.lights, timeout_s)
    # Blender never waits: A is rendered while B's part is found, B while A is denoised.
    asked_a = camera.ask(plan.scene_a)
    if not plan.changes:
        passes_a = camera.receive(asked_a)
        image_a = denoiser.denoise(passes_a)
        return image_a, passes_a.ids, image_a.copy(), passes_a.ids
    mask = _whole_tiles(influence_mask(plan, worker.width, worker.height))
    if not mask.any():
        mask[:] = True  # a change out of sight: label_pair will say so
    asked_b = camera.ask(plan.scene_b, mask)
    passes_a = camera.receive(asked_a)
    image_a = denoiser.denoise(passes_a)
    passes_b = camera.receive(asked_b, passes_a)
    context = Window.around(mask).widened(CONTEXT_PX, DENOISER_STEP_PX, worker.width, worker.height)
    image_b = image_a.copy()
    within = mask[context.slices]
    image_b[context.slices][within] = denoiser.denoise(passes_b.crop(context))[within]
    if seam(image_a, image_b, mask) > SEAM_LEVELS:
        passes_b = camera.receive(camera.ask(plan.scene_b))
        image_b = denoiser.denoise(passes_b)
    return image_a, passes_a.ids, image_b, passes_b.ids


def render_pair_whole(
    plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser, timeout_s: float
) -> PairImages:
    """Both pictures of a plan, each rendered as a whole."""
    camera = _Camera(plan, worker, plan.camera, plan.lights, timeout_s)
    a, b = (camera.receive(asked) for asked in [camera.ask(plan.scene_a), camera.ask(plan.scene_b)])
    return denoiser.denoise(a), a.ids, denoiser.denoise(b), b.ids


def render_b(
    plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser, timeout_s: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Image B and its ids by the camera and the lights of the plan's nuisance.

    None when they are those of image A.
    """
    if (plan.camera_b, plan.lights_b) == (plan.camera, plan.lights):
        return None
    camera = _Camera(plan, worker, plan.camera_b, plan.lights_b, timeout_s)
    passes = camera.receive(camera.ask(plan.scene_b))
    return denoiser.denoise(passes), passes.ids


@dataclass(frozen=True)
class _Asked:
    """A range of samples that a worker was asked for, in part of a picture."""

    number: int
    samples: tuple[int, int]
    window: Window
    mask: np.ndarray


class _Camera:
    """A camera and its lights: takes few samples of all that it is to show, and further ones of
    objects and around them."""

    def __init__(
        self,
        plan: PairPlan,
        worker: WorkerProcess,
        camera: Camera,
        lights: tuple[Light, ...],
        timeout_s: float,
    ) -> None:
        self._worker, self._view, self._timeout_s = (
            worker,
            (camera, lights, plan.scenery),
            timeout_s,
        )
        self._few, self._many = worker.samples.on(plan.scenery)
        self._detail = np.zeros((worker.height, worker.width), bool)
        if self._many > self._few:
            self._detail = _whole_tiles(detail_mask(plan, camera, worker.width, worker.height))

    def ask(self, scene: tuple[SceneObject, ...], mask: np.ndarray | None = None) -> list[_Asked]:
        """Ask for a picture, or for what the (H, W) mask shows of it, without waiting."""
        mask = np.ones_like(self._detail) if mask is None else mask
        parts = [(mask, (0, self._few)), (mask & self._detail, (self._few, self._many))]
        return [self._submit(scene, part, samples) for part, samples in parts if part.any()]

    def receive(self, asked: list[_Asked], around: RenderPasses | None = None) -> RenderPasses:
        """Wait for a picture; what was not asked for of it is as in ``around``."""
        passes = None
        for part in asked:
            first, end = part.samples
            found = self._worker.receive(part.number, self._timeout_s)
            if first:
                assert passes is not None
                passes.mix(found, part.window, part.mask, weight=(end - first) / end)
            else:
                passes = around.replaced(found, part.window, part.mask) if around else found
        assert passes is not None
        return passes

    def _submit(
        self, scene: tuple[SceneObject, ...], mask: np.ndarray, samples: tuple[int, int]
    ) -> _Asked:
        window = Window.around(mask)
        request = RenderRequest(scene, samples=samples)
        if not mask.all():
            request = RenderRequest(scene, window, covers(mask), samples)
        return _Asked(self._worker.submit(*self._view, request), samples, window, mask)


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
