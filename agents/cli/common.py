"""Arguments that the evaluations share, and where their results go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dig_env import COORDINATES
from dig_env.agents.training.settings import stage_of_module
from dig_env.align import TASKS, resolve_tasks
from dig_env.answers import DIALECTS, habit_of
from dig_env.scenes import RenderSettings


@dataclass(frozen=True)
class HeldOut:
    """Which pairs are played.

    Attributes:
        seed: of the draw of what is played, and of the resampling for the intervals.
        split: train, validation or test.
        dataset: play the pairs of this folder, which dig-env render wrote, not fresh ones.
        width: image width in pixels; stored pairs have theirs.
        height: image height in pixels; stored pairs have theirs.
        quality: draft, standard or high; stored pairs have theirs.
    """

    seed: int = 0
    split: str = "test"
    dataset: Path | None = None
    width: int = 128
    height: int = 96
    quality: str = "draft"

    @property
    def settings(self) -> RenderSettings:
        """How fresh pairs are rendered."""
        return RenderSettings(self.width, self.height, self.quality)

    @property
    def environment(self) -> dict[str, Any]:
        """The same as arguments of an environment."""
        if self.dataset is not None:
            return {"dataset": str(self.dataset)}
        return {"width": self.width, "height": self.height, "quality": self.quality}


@dataclass(frozen=True)
class Answers:
    """How the policy answers.

    Attributes:
        coordinates: frame of the boxes: norm1000, unit, pixel or resized_pixel.
        max_tokens: longest answer; by default 24 tokens of tiny, 256 of another local model and
            4096 of an endpoint's. A Thinking model needs thousands.
    """

    coordinates: str = "norm1000"
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        _one_of("--coordinates", self.coordinates, COORDINATES)


@dataclass(frozen=True)
class PairAnswers:
    """How the policy answers, and is asked to. A model in a folder here counts as trained to answer
    in strict and norm1000, whatever its family.

    Attributes:
        answers: dialect of the answers: strict, lenient, qwen2-vl, qwen2.5-vl, qwen3-vl, glm-v,
            internvl, minicpm-v, doubao, deepseek-vl2, cogvlm, gemini, paligemma or florence-2. By
            default that of the model's family, else strict.
        coordinates: frame of the boxes: norm1000, unit, pixel or resized_pixel. By default that of
            the dialect, else norm1000.
        max_tokens: longest answer; by default 24 tokens of tiny, 256 of another local model and
            4096 of an endpoint's. A Thinking model needs thousands.
    """

    answers: str | None = None
    coordinates: str | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.coordinates is not None:
            _one_of("--coordinates", self.coordinates, COORDINATES)
        if self.answers is not None:
            _one_of("--answers", self.answers, DIALECTS)

    def chosen(self, policy: str) -> tuple[str, Answers]:
        """The dialect for a policy of this name, and the rest."""
        habit = habit_of("" if Path(policy).is_dir() else policy)
        if self.answers is not None:
            frame = DIALECTS[self.answers].coordinates
            habit = {"answers": self.answers, "coordinates": frame or "norm1000"}
        coordinates = self.coordinates or habit["coordinates"]
        return habit["answers"], Answers(coordinates, self.max_tokens)


def _one_of(option: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} {value}: give one of {', '.join(allowed)}")


StageName = Annotated[
    str,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="STAGE",
        instance_from_str=lambda words: stage_of_module(words[0]),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda name: [name],
    ),
]
"""A stage on the command line."""


def tasks_named(task: str) -> tuple[str, ...]:
    """The alignment tasks of a command line: a name, several with commas between, or all."""
    return tuple(TASKS) if task == "all" else resolve_tasks(task.split(","))


HeldOutArgs = Annotated[HeldOut, tyro.conf.OmitArgPrefixes]
AnswersArgs = Annotated[Answers, tyro.conf.OmitArgPrefixes]
PairAnswersArgs = Annotated[PairAnswers, tyro.conf.OmitArgPrefixes]


def result_file(out: Path | None, *names: str) -> Path:
    """Where a result goes: ``out``, or a file in runs/ that is named after what ran.

    Raises:
        ValueError: ``out`` does not end in .json; its report beside it ends in .html.
        FileNotFoundError: the folder of ``out`` is not there.
    """
    if out is None:
        Path("runs").mkdir(exist_ok=True)
        return Path("runs", "-".join(re.sub(r"[^\w.]+", "-", name) for name in names) + ".json")
    if out.suffix != ".json":
        raise ValueError(
            f"--out {out}: give a name that ends in .json; the report is written beside it as .html"
        )
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.absolute().parent}: make it first")
    return out
