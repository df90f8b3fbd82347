"""What an audit checks of one row: pixels, boxes, labels, plan and seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dig_env.scenes.dataset.manifest import DataFile, Manifest
from dig_env.scenes.dataset.rows import decode, pixels_sha256
from dig_env.scenes.measure.labels import label_pair, label_with_nuisance, mask_bounds
from dig_env.scenes.measure.pair import Box, Certificate, Difference, Pair
from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError
from dig_env.scenes.plans.planner import plan_pair
from dig_env.scenes.plans.splits import pair_seed_range
from dig_env.scenes.version import __version__

LEAST_IOU = 0.9

Findings = tuple[str, int, list[str]]
"""(name of the check, number of things looked at, what is wrong with them)"""


@dataclass(frozen=True)
class _Row:
    """A decoded row and where it stands."""

    fields: dict[str, Any]
    pair: Pair
    file: DataFile
    index: int
    manifest: Manifest


def check_row(
    fields: dict[str, Any] | Exception,
    file: DataFile,
    index: int,
    manifest: Manifest,
    places: dict[int, str],
) -> Iterator[Findings]:
    """All checks of one row; ``places`` collects where each pair seed was seen."""
    try:
        if isinstance(fields, Exception):
            raise fields
        row = _Row(fields, decode(fields), file, index, manifest)
    except Exception as error:  # damaged bytes can break any of the decoders in many ways
        yield "rows", 1, [f"cannot be decoded ({type(error).__name__}: {error})"]
        return
    yield "rows", 1, []
    for check in (_pixels, _boxes, _labels, _plan):
        try:
            yield from check(row)
        except Exception as error:  # labels and plan can be any nonsense
            yield check.__name__[1:], 1, [f"cannot be checked ({error!r})"]
    yield from _seeds(row, places)


def _pixels(row: _Row) -> Iterator[Findings]:
    settings, pair = row.manifest.settings, row.pair
    size = (settings.height, settings.width)
    shapes = {"image_a": (*size, 3), "image_b": (*size, 3), "ids_a": size, "ids_b": size}
    messages = [
        f"{name} has shape {getattr(pair, name).shape}, and the settings say {shape}"
        for name, shape in shapes.items()
        if getattr(pair, name).shape != shape
    ]
    if pixels_sha256(pair) != row.fields["pixels_sha256"]:
        messages.append("the pixels are not those that were rendered (pixels_sha256)")
    yield "pixels", 1, messages


def _boxes(row: _Row) -> Iterator[Findings]:
    pair = row.pair
    unequal, far = [], []
    for diff in pair.differences:
        mask_a, mask_b = pair.ids_a == diff.object_id, pair.ids_b == diff.object_id
        # A camera that moved makes two truths, of which image A's is scored if there is one.
        scored = mask_a if pair.camera_moved and mask_a.any() else mask_a | mask_b
        for name, mask in (("box", scored), ("box_a", mask_a), ("box_b", mask_b)):
            stored, true = getattr(diff, name), mask_bounds(mask)
            if stored != true:
                overlap = _iou(stored, true)
                message = (
                    f"{name} of object {diff.object_id} is {stored}, and its mask has the bounds "
                    f"{true} (IoU {overlap:.2f})"
                )
                unequal.append(message)
                far += [message] if overlap < LEAST_IOU else []
    yield "boxes", 3 * len(pair.differences), unequal
    yield "boxes IoU", 3 * len(pair.differences), far


def _iou(one: Box | None, other: Box | None) -> float:
    """Intersection over union; 0 when either is missing."""
    if one is None or other is None:
        return 0.0
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


def _labels(row: _Row) -> Iterator[Findings]:
    stored = row.pair
    if stored.plan.nuisance is None:
        images = stored.image_a, stored.ids_a, stored.image_b, stored.ids_b
        measured, problem = label_pair(stored.plan, *images)
    else:  # image B before its nuisance is not kept: contrasts cannot be measured again
        measured, problem = label_with_nuisance(stored, stored.image_b, stored.ids_b)
    messages = [problem] if measured is None else []
    if measured is not None:
        if len(measured.differences) != len(stored.differences):
            messages.append(
                f"{len(measured.differences)} differences are measured, and "
                f"{len(stored.differences)} are stored"
            )
        both: list[tuple[Any, Any]] = [(measured.certificate, stored.certificate)]
        both += zip(measured.differences, stored.differences, strict=False)
        for new, old in both:
            messages += _unequal_fields(new, old)
    yield "labels", 1, messages


def _unequal_fields(
    measured: Difference | Certificate, stored: Difference | Certificate
) -> Iterator[str]:
    for field in dataclasses.fields(measured):
        new, old = getattr(measured, field.name), getattr(stored, field.name)
        # Sums of floats may differ in their last bits from one kind of processor to another.
        close = isinstance(new, float) and math.isclose(new, old, rel_tol=1e-6, abs_tol=1e-9)
        if new != old and not close:
            yield f"{field.name} is measured as {new}, and stored as {old}"


def _plan(row: _Row) -> Iterator[Findings]:
    plan, difficulty = row.pair.plan, row.manifest.stages[row.file.stage]
    messages = []
    ids = [obj.id for obj in plan.objects] + [change.object_id for change in plan.changes]
    if len(set(ids)) != len(ids):
        messages.append(f"object ids {ids} are not unique")
    planned = [(change.object_id, change.change) for change in plan.changes]
    labelled = [(diff.object_id, diff.change) for diff in row.pair.differences]
    if planned != labelled:
        messages.append(f"the plan changes {planned}, and the labels say {labelled}")
    low, high = difficulty.differences
    if not low <= len(plan.changes) <= high:
        messages.append(f"K = {len(plan.changes)}, and the stage asks for {low} to {high}")
    if plan.difficulty != difficulty:
        messages.append("its difficulty is not that of the stage")
    if plan.seed != row.fields["pair_seed"]:
        messages.append(f"it is the plan of seed {plan.seed}, not {row.fields['pair_seed']}")
    # Another dig-env may plan other scenes from the same seed.
    is_ours = row.manifest.made_with["dig-env"] == __version__
    # The photographs, which decide the plans of their pairs, are not in the folder. Nor are
    # families, of which this process may not know this one.
    can_plan = is_ours and plan.layout is not None and _can_be_planned(difficulty)
    if can_plan and plan != plan_pair(row.fields["pair_seed"], difficulty, plan.attempt):
        messages.append("it is not what dig-env plans for this pair seed and stage")
    yield "plan", 1, messages


def _can_be_planned(difficulty: Difficulty) -> bool:
    try:
        difficulty.check_family()
    except DifficultyError:
        return False
    return True


def _seeds(row: _Row, places: dict[int, str]) -> Iterator[Findings]:
    seed, file = row.fields["pair_seed"], row.file
    messages = []
    if seed in places:
        messages.append(f"pair seed {seed} is also that of {places[seed]}")
    places.setdefault(seed, f"{file.path} row {row.index}")
    if seed not in pair_seed_range(file.split):
        messages.append(f"pair seed {seed} is not in the range of {file.split}")
    if seed != file.first_pair_seed + row.index:
        messages.append(f"pair seed {seed} stands where {file.first_pair_seed + row.index} belongs")
    if row.fields["stage"] != file.stage:
        messages.append(f"its stage is {row.fields['stage']!r}, in a file of {file.stage!r}")
    yield "seeds", 1, messages
