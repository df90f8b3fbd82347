"""Which differences a policy finds: recall along axes of what differs, with intervals.

An axis sorts every difference into one group. Its limits are fixed and no quantiles of the pairs at
hand, so that two evaluations can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env.agents.evaluation.episodes import METRICS, Episode, metric_values
from dig_env.agents.evaluation.external.pair import ExternalPair
from dig_env.agents.evaluation.intervals import mean_intervals, ratio_intervals
from dig_env.scenes import CHANGES, Difference, Pair
from dig_env.scenes.measure.occlusion import hidden_share


@dataclass(frozen=True)
class Axis:
    """A way to sort differences.

    Attributes:
        meaning: of its groups, in a sentence for people.
        groups: in the order in which they are shown.
        group_of: the group that a rendered pair's difference belongs to; None where it is in none.
    """

    meaning: str
    groups: tuple[str, ...]
    group_of: Callable[[Pair, Difference], str | None]


def _size(pair: Pair, difference: Difference) -> str | None:
    if pair.plan.layout is None:
        return None
    (change,) = (c for c in pair.plan.layout.changes if c.object_id == difference.object_id)
    sizes = {obj.size for obj in (change.before, change.after) if obj is not None}
    return sizes.pop() if len(sizes) == 1 else "both"


def _area(pair: Pair, difference: Difference) -> str:
    share = max(difference.visible_a, difference.visible_b) / pair.ids_a.size
    return "under 1 %" if share < 0.01 else "1 to 2.5 %" if share < 0.025 else "over 2.5 %"


def _occlusion(pair: Pair, difference: Difference) -> str:
    share = hidden_share(pair, difference.object_id)
    return "under 1 %" if share < 0.01 else "1 to 10 %" if share < 0.1 else "over 10 %"


def _position(pair: Pair, difference: Difference) -> str:
    height, width = pair.ids_a.shape
    x0, y0, x1, y1 = difference.box
    column = min(int(3 * (x0 + x1) / (2 * width)), 2)
    row = min(int(3 * (y0 + y1) / (2 * height)), 2)
    return ("left", ("top", "center", "bottom")[row], "right")[column]


AXES: dict[str, Axis] = {
    "change": Axis("What changes.", CHANGES, lambda _, difference: difference.change),
    "size": Axis(
        "The changed object's size; both where its size is what changes. Not in photographs.",
        ("small", "large", "both"),
        _size,
    ),
    "area": Axis(
        "The part of the image that its visible pixels cover, in the image that shows more of it.",
        ("under 1 %", "1 to 2.5 %", "over 2.5 %"),
        _area,
    ),
    "occlusion": Axis(
        "The part of its silhouette in which other objects stand before it, over both images.",
        ("under 1 %", "1 to 10 %", "over 10 %"),
        _occlusion,
    ),
    "position": Axis(
        "The third of the image that holds the middle of its box: left, right, and of the column "
        "between them top, center or bottom.",
        ("left", "center", "right", "top", "bottom"),
        _position,
    ),
}


def recall_by_axis(
    episodes: Sequence[Episode], seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """The share of the differences that were found, for each group of each of ``AXES``.

    Args:
        episodes: at least one.
        seed: of the resampling for the intervals, which draws pairs.

    Returns:
        By axis and group, those without differences left out: "differences", how many there are,
        and "recall", [share found, lower, upper end of the interval].
    """
    result = {}
    for name in AXES:
        groups = [_groups(name, episode) for episode in episodes]
        names = dict.fromkeys(AXES[name].groups) | dict.fromkeys(g for of in groups for g in of)
        columns = {group: column for column, group in enumerate(names) if group is not None}
        there = np.zeros((len(episodes), len(columns)))
        found = np.zeros_like(there)
        for row, (episode, of) in enumerate(zip(episodes, groups, strict=True)):
            for index, group in enumerate(of):
                if group is not None:
                    there[row, columns[group]] += 1
                    found[row, columns[group]] += index in episode.found
        filled = there.any(axis=0)
        if not filled.any():
            continue
        intervals = iter(ratio_intervals(found[:, filled], there[:, filled], seed=seed).tolist())
        result[name] = {
            group: {"differences": int(there[:, column].sum()), "recall": next(intervals)}
            for group, column in columns.items()
            if filled[column]
        }
    return result


def _groups(axis: str, episode: Episode) -> list[str | None]:
    """The group of each difference of a pair. Of an external one only the change is known."""
    if not isinstance(episode.pair, ExternalPair):
        group_of = AXES[axis].group_of
        return [group_of(episode.pair, difference) for difference in episode.pair.differences]
    return list(episode.changes) if axis == "change" else []


def metrics_by_count(episodes: Sequence[Episode], seed: int = 0) -> dict[str, dict[str, Any]]:
    """The metrics of the pairs with each number of differences.

    Returns:
        By that number: "pairs", how many there are, and for each of ``METRICS`` [mean, lower,
        upper end of the interval].
    """
    counts = np.array([len(episode.pair.boxes_unit) for episode in episodes])
    values = metric_values(episodes)
    return {
        str(count): {
            "pairs": int((counts == count).sum()),
            **metrics_with_intervals(values[counts == count], seed),
        }
        for count in np.unique(counts).tolist()
    }


def metrics_with_intervals(values: np.ndarray, seed: int = 0) -> dict[str, list[float]]:
    """[mean, lower, upper end of the interval] of each of ``METRICS``, from ``metric_values``."""
    return dict(zip(METRICS, mean_intervals(values, seed=seed).tolist(), strict=True))
