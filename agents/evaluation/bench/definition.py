"""What DiG-Bench is: which pairs, rendered how, and the hashes by which they are known.

Two kinds of hash, since two kinds of thing are frozen. Plans are the same on every machine: the
hash of other plans is another benchmark. Pixels are the same on one kind of machine ("made_with");
elsewhere a few differ by a level, and figures may still be compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig_env.scenes import STAGES, PairDataset, RenderSettings, plan_pair
from dig_env.scenes.dataset.manifest import stage_seeds
from dig_env.scenes.plans.stages import BUILT_IN_STAGES

NAME, VERSION = "DiG-Bench", 1
"""The version rises when a plan changes."""
SPLIT = "test"
"""No training of this package draws its pair seeds from it."""
QUALITY, DEVICE = "standard", "cpu"
SIZES = ("320x240", "640x480")
PAIRS = 200
"""Of each stage."""
FILE = "dig-bench.json"
"""What a folder of the benchmark says of itself."""
PUBLISHED = Path(__file__).with_name(FILE)


@dataclass(frozen=True)
class FrozenStage:
    """The first pairs of a stage at one size.

    Attributes:
        first_pair_seed: of pair 0; pair i has this seed plus i.
        attempts: of each pair, which plan of its seed's stream it is: that of the first picture
            which kept the rules. With it the plan can be made without a picture.
        plans_sha256: of the plans.
        pixels_sha256: of the raw pixels.
    """

    first_pair_seed: int
    attempts: tuple[int, ...]
    plans_sha256: str
    pixels_sha256: str


@dataclass(frozen=True)
class FrozenSize:
    """All stages at one size.

    Attributes:
        made_with: what the pixels are bound to; see ``Manifest``.
        stages: those that are complete, by name.
    """

    made_with: dict[str, str]
    stages: dict[str, FrozenStage]

    def sha256(self, what: str) -> str:
        """Of all stages together: "plans" or "pixels"."""
        return _sha256(getattr(stage, f"{what}_sha256") for stage in self.stages.values())


@dataclass(frozen=True)
class Definition:
    """A benchmark, as ``FILE`` has it.

    Attributes:
        pairs: of each stage.
        sizes: those that are there, by name, such as "320x240".
        version: of the benchmark.
    """

    pairs: int
    sizes: dict[str, FrozenSize]
    version: int = VERSION

    @property
    def text(self) -> str:
        """The content of ``FILE``; each list of attempts is one line."""
        head = {"name": NAME, "version": self.version, "split": SPLIT, "quality": QUALITY}
        fields = head | {"device": DEVICE} | dataclasses.asdict(self)
        text = json.dumps(fields, indent=1)
        return re.sub(r"\[[\d,\s]+\]", lambda found: "".join(found[0].split()), text) + "\n"

    @classmethod
    def load(cls, path: Path) -> Definition:
        """Read ``FILE``.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        try:
            fields = json.loads(path.read_text())
            sizes = {
                name: FrozenSize(
                    size["made_with"],
                    {
                        stage: FrozenStage(**entry | {"attempts": tuple(entry["attempts"])})
                        for stage, entry in size["stages"].items()
                    },
                )
                for name, size in fields["sizes"].items()
            }
            return cls(fields["pairs"], sizes, fields["version"])
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no {path}: 'dig-env bench make {path.parent}' makes the pairs"
            ) from None
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}): delete it and run "
                f"'dig-env bench make {path.parent}' again, which keeps the pairs"
            ) from error


def settings_of(size: str) -> RenderSettings:
    """How pairs of a size, such as "320x240", are rendered.

    Raises:
        ValueError: it is no size.
    """
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"size {size!r}: give width and height in pixels, such as {SIZES[0]}")
    return RenderSettings(int(width), int(height), QUALITY, DEVICE)


def frozen_stage(dataset: PairDataset, stage: str, pairs: int) -> FrozenStage | None:
    """What a dataset holds of the first pairs of a stage; None where some are missing."""
    seeds = stage_seeds(SPLIT, stage)[:pairs]
    if (stage, SPLIT) not in {(file.stage, file.split) for file in dataset.manifest.files}:
        return None
    if len(dataset.pair_seeds(stage, SPLIT)) < pairs:
        return None
    plans = [json.loads(text) for text in dataset.column("plan", stage, SPLIT)[:pairs]]
    pixels = dataset.column("pixels_sha256", stage, SPLIT)[:pairs]
    attempts = tuple(plan["attempt"] for plan in plans)
    return FrozenStage(seeds[0], attempts, plans_sha256(plans), _sha256(pixels))


def plans_sha256(plans: Iterable[dict[str, Any]]) -> str:
    """Of plans as JSON values, such as ``PairPlan.to_json`` gives."""
    return _sha256(json.dumps(plan, sort_keys=True) for plan in plans)


def planned_sha256(stage: str, frozen: FrozenStage) -> str:
    """The hash of the plans that this package makes today of a frozen stage; no Blender."""
    plans = (
        plan_pair(frozen.first_pair_seed + index, STAGES[stage], attempt)
        for index, attempt in enumerate(frozen.attempts)
    )
    return plans_sha256(plan.to_json() for plan in plans)


@dataclass(frozen=True)
class Comparison:
    """Made pairs beside the published ones.

    Attributes:
        same: "pixels", "plans" (made on another kind of machine), or "" for neither.
        reasons: what is not the same, for people.
        is_other: as many pairs, of other plans: something is wrong.
    """

    same: str
    reasons: tuple[str, ...] = ()
    is_other: bool = False


def compare(made: Definition, size: str, published: Definition | None = None) -> Comparison:
    """Say whether the pairs of a size are those of the benchmark.

    Args:
        made: of a folder.
        size: one of its sizes.
        published: what to compare with; None for the package's own.
    """
    published = published or Definition.load(PUBLISHED)
    here, there = made.sizes[size], published.sizes.get(size)
    if there is None or made.pairs != published.pairs or {*here.stages} != {*BUILT_IN_STAGES}:
        frozen = " and ".join(published.sizes) or "no size yet"
        reason = (
            f"{len(here.stages)} stages of {made.pairs} pairs at {size} are a trial: published are "
            f"{len(BUILT_IN_STAGES)} stages of {published.pairs} at {frozen}"
        )
        return Comparison("", (reason,))
    if plans := _unequal(here, there, "plans"):
        reason = f"the plans of {', '.join(plans)} are not those of {NAME} {published.version}"
        return Comparison("", (reason,), is_other=True)
    if pixels := _unequal(here, there, "pixels"):
        other = [
            f"{name} {here.made_with.get(name)} instead of {value}"
            for name, value in there.made_with.items()
            if here.made_with.get(name) != value
        ]
        cause = ", ".join(other) or "no recorded cause"
        return Comparison("plans", (f"some pixels of {', '.join(pixels)} differ: {cause}",))
    return Comparison("pixels")


def _unequal(here: FrozenSize, there: FrozenSize, what: str) -> list[str]:
    """The published stages that differ in their plans or pixels."""
    return [
        name
        for name, stage in there.stages.items()
        if getattr(here.stages[name], f"{what}_sha256") != getattr(stage, f"{what}_sha256")
    ]


def _sha256(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
