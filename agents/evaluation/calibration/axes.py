"""The difficulties of the calibration card: the reference answers', then one axis at a time."""

from __future__ import annotations

from typing import Any

from dig_env.scenes import PAPER_CHANGES, PAPER_STAGES, STAGES, Difficulty

SMALLER = 60 / (320 * 240)
"""A ``min_visible`` that lets small or hidden objects pass."""

DIFFICULTIES: dict[str, Difficulty] = {
    **{stage: STAGES[stage] for stage in PAPER_STAGES},
    **{f"{change} only": Difficulty(changes=(change,)) for change in PAPER_CHANGES},
    "crowded": Difficulty(objects=(8, 10)),
    "crowded, 1 to 4": Difficulty(differences=(1, 4), objects=(8, 10)),
    "small, 1 to 4": Difficulty(
        differences=(1, 4), objects=(8, 10), min_visible=50 / (320 * 240), min_contrast=2.3
    ),
}
"""Where the reference answers are played; one difference unless the name says otherwise."""


def _subtle(name: str, change: str, low: float, high: float) -> Difficulty:
    """One change of a kind, within a range, and as faint as can just be noticed."""
    within: dict[str, Any] = {name: (low, high)}
    return Difficulty(changes=(change,), min_contrast=2.3, **within)


AXIS_DIFFICULTIES: dict[str, Difficulty] = {
    **{stage: STAGES[stage] for stage in STAGES if stage not in PAPER_STAGES},
    "0 or 1 differences": Difficulty(differences=(0, 1)),
    "0 to 8 differences": Difficulty(differences=(0, 8), objects=(8, 10)),
    "color distance 20 to 40": _subtle("color_distance", "color", 20, 40),
    "color distance 10 to 20": _subtle("color_distance", "color", 10, 20),
    "color distance 5 to 10": _subtle("color_distance", "color", 5, 10),
    "size ratio 1.2 to 1.4": _subtle("size_ratio", "size", 1.2, 1.4),
    "size ratio 1.1 to 1.2": _subtle("size_ratio", "size", 1.1, 1.2),
    "size ratio 1.05 to 1.1": _subtle("size_ratio", "size", 1.05, 1.1),
    "material contrast over 20": _subtle("material_contrast", "material", 20, 100),
    "material contrast under 20": _subtle("material_contrast", "material", 2.3, 20),
    "15 objects": Difficulty(objects=(15, 15), object_scale=(0.6, 0.9), min_visible=SMALLER),
    "20 objects": Difficulty(objects=(20, 20), object_scale=(0.6, 0.9), min_visible=SMALLER),
    "hidden by 0.1 to 0.3": Difficulty(occlusion=(0.1, 0.3), min_visible=SMALLER),
    "hidden by 0.3 to 0.6": Difficulty(occlusion=(0.3, 0.6), min_visible=SMALLER),
    "objects at 0.75": Difficulty(object_scale=(0.75, 0.75), min_visible=SMALLER),
    "objects at 0.5": Difficulty(object_scale=(0.5, 0.5), min_visible=SMALLER),
    **{f"camera shift {shift}": Difficulty(camera_shift=shift) for shift in (0.02, 0.05, 0.2)},
    **{f"light shift {shift:g}": Difficulty(light_shift=shift) for shift in (1.0, 3.0)},
    **{f"exposure {stops}": Difficulty(exposure_stops=stops) for stops in (0.1, 0.3, 1.0)},
    **{f"noise {sigma:g}": Difficulty(noise_levels=sigma) for sigma in (4.0, 8.0, 16.0)},
    **{f"JPEG {quality}": Difficulty(jpeg_quality=quality) for quality in (90, 50, 20)},
}
"""Where ``benchmarks/axes.py`` plays policies that use the images, from mild to strong on each
axis; one difference unless the name says otherwise. Nuisances are added to the scenes of "single".
"""
