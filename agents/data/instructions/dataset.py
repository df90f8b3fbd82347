"""Instruction data: questions about fresh or stored pairs with their right answers, on disk.

Pairs are taken in the order of their seeds, and each gives up to ``per_pair`` examples. The task of
the next example is the one with the fewest so far that the pair can still give, so that tasks are
as evenly spread as scenes allow, and at the end exactly evenly. Files are cut between pairs: a
file's end is all that is needed to resume, so that a run which was stopped ends up with the same
bytes as one that was not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dig_env.agents.data.instructions.card import align_card
from dig_env.agents.data.instructions.folder import (
    check_align_folder,
    check_versions,
    open_align_folder,
    rows_of,
    save_align_manifest,
)
from dig_env.agents.data.instructions.formats import WRITERS, Example, finish_llava
from dig_env.align import TASKS, AlignSettings, Question, pose, resolve_tasks
from dig_env.scenes import (
    Pair,
    PairDataset,
    Renderer,
    RenderSettings,
    pair_seed_range,
    plan_pair,
    resolve_stage,
    views,
)
from dig_env.scenes.arguments import one_of, whole
from dig_env.scenes.dataset.manifest import library_versions, stage_seeds
from dig_env.scenes.files import locked, write_whole

FORMATS = tuple(WRITERS)
MAX_EMPTY = 50
"""Pairs in a row that may give no example before it is an error."""


@dataclass(frozen=True)
class AlignData:
    """What a folder of instruction data holds, whatever the split and the count.

    Attributes:
        tasks: names in ``dig_env.align.TASKS``.
        format: one of ``FORMATS``.
        settings: how questions are posed.
        stage: of the pairs; None with a dataset takes all that it has, and else "mixed".
        render: size and quality of fresh pairs; a dataset has its own.
        dataset: folder of stored pairs to ask about, or None for fresh ones.
        per_pair: greatest number of examples of one pair.
        rows_per_file: examples after which a file ends with its pair.

    Raises:
        ValueError: a field is out of its range.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    format: str = "trl"
    settings: AlignSettings = field(default_factory=AlignSettings)
    stage: str | None = None
    render: RenderSettings = field(default_factory=RenderSettings)
    dataset: str | None = None
    per_pair: int = 8
    rows_per_file: int = 500

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", resolve_tasks(self.tasks))
        one_of("format", self.format, FORMATS)
        for name in ("per_pair", "rows_per_file"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
        if self.dataset is not None:
            object.__setattr__(self, "render", PairDataset(self.dataset).settings)
        elif self.stage is None:
            object.__setattr__(self, "stage", "mixed")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the same for equal data, in whatever folder a dataset is."""
        fields = dataclasses.asdict(self)
        if self.dataset is not None:
            manifest = PairDataset(self.dataset).manifest.text
            fields["dataset"] = hashlib.sha256(manifest.encode()).hexdigest()
        return json.loads(json.dumps(fields))


def write_align_data(
    out: str | Path,
    count: int,
    data: AlignData = AlignData(),
    split: str = "train",
    workers: int | None = None,
    on_example: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the examples of a split that a folder lacks, up to ``count``.

    Call it again after a stop or a kill: it resumes.

    Args:
        out: made if need be; it may hold other splits of the same ``data``.
        count: examples in all; the tasks share them evenly, earlier ones taking what is left over.
        data: see there.
        split: "train", "validation" or "test": disjoint ranges of pair seeds.
        workers: Blender processes for fresh pairs; None for one a CPU core, if they fit in memory.
        on_example: called with (examples there, examples in all) after every file and pair.

    Returns:
        The folder's manifest, as ``align.json`` has it.

    Raises:
        ValueError: ``count`` is out of its range, the folder holds something else, or the pairs
            do not give as many examples.
        RenderError: Blender is missing or failed.
    """
    count = whole("count", count, 1, of=" of examples")
    pair_seed_range(split)  # says which splits there are
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    check_align_folder(out)
    with locked(out):
        manifest = open_align_folder(out, data.to_json(), split, count)
        state = manifest["splits"][split]
        report = on_example or (lambda done, total: None)
        report(rows_of(state), count)
        if rows_of(state) < count:
            _write_files(out, data, split, manifest, workers, report)
        if data.format == "llava":
            finish_llava(out, split, [file["path"] for file in state["files"]])
        write_whole(out / "README.md", align_card(manifest).encode())
    return manifest


def _write_files(
    out: Path,
    data: AlignData,
    split: str,
    manifest: dict[str, Any],
    workers: int | None,
    report: Callable[[int, int], None],
) -> None:
    """Write the missing files of a split, each whole; the manifest follows every one."""
    state = manifest["splits"][split]
    done, total = rows_of(state), state["count"]
    next_pair = state["files"][-1]["next_pair"] if state["files"] else 0
    counts = {
        name: sum(file["counts"].get(name, 0) for file in state["files"]) for name in data.tasks
    }
    quotas = _quotas(data.tasks, total)
    source = _Source(data, split, next_pair, workers)
    try:
        check_versions(out, manifest, source.versions)
        examples: list[Example] = []
        empty = 0
        for pair in source.pairs:
            found = list(_examples_of(pair, data, counts, quotas))
            empty = 0 if found else empty + 1
            if empty == MAX_EMPTY:
                short = [name for name in data.tasks if counts[name] < quotas[name]]
                raise ValueError(
                    f"{MAX_EMPTY} pairs in a row gave nothing to ask for {', '.join(short)}: "
                    "loosen the filters, or take a stage with more objects"
                )
            examples += found
            next_pair += 1
            full = counts == quotas
            report(done + len(examples), total)
            if full or len(examples) >= data.rows_per_file:
                file = _write_file(out, data, split, len(state["files"]), examples)
                state["files"].append(file | {"next_pair": next_pair})
                save_align_manifest(out, manifest)
                done, examples = done + len(examples), []
            if full:
                return
    finally:
        source.close()
    raise ValueError(
        f"the {next_pair} pairs of {data.dataset} give {sum(counts.values())} examples, not "
        f"{total}: ask for fewer, raise per_pair, or render more pairs"
    )


def _examples_of(
    pair: Pair, data: AlignData, counts: dict[str, int], quotas: dict[str, int]
) -> Iterator[Example]:
    """A pair's examples; counts them in ``counts``."""
    images, seen = views(pair), set()
    open_tasks = [name for name in data.tasks if counts[name] < quotas[name]]
    number = 0
    for draw in itertools.count():
        if number == data.per_pair or not open_tasks:
            return
        task = min(open_tasks, key=counts.__getitem__)
        rng = np.random.default_rng([pair.plan.seed, draw])
        posed = pose(images, task, rng, data.settings)
        if posed is None or _content(*posed) in seen:
            open_tasks.remove(task)
            continue
        seen.add(_content(*posed))
        image, question = posed
        yield Example(question, f"{pair.plan.seed}-{number}", pair.plan.seed, image, data.settings)
        counts[task] += 1
        number += 1
        if counts[task] == quotas[task]:
            open_tasks.remove(task)


def _content(image: str, question: Question) -> tuple[str | bytes, ...]:
    """All that a question shows and says, by which a pair is not asked the same twice."""
    turns = question.turns
    crops = (crop.tobytes() for turn in turns for crop in turn.crops)
    return (image, *(turn.prompt for turn in turns), *crops)


def _write_file(
    out: Path, data: AlignData, split: str, index: int, examples: Sequence[Example]
) -> dict[str, Any]:
    """Write some examples to the split's next file; what the manifest says of it."""
    path = WRITERS[data.format](out, split, index, examples)
    counts = {name: sum(e.question.task == name for e in examples) for name in data.tasks}
    content = (out / path).read_bytes()
    return {
        "path": path,
        "rows": len(examples),
        "counts": counts,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


class _Source:
    """The pairs of a split from a position on, and the versions that decided their pixels."""

    def __init__(self, data: AlignData, split: str, position: int, workers: int | None) -> None:
        self._renderer: Renderer | None = None
        if data.dataset is not None:
            dataset = PairDataset(data.dataset)
            seeds = dataset.pair_seeds(data.stage, split)[position:]
            self.pairs: Iterator[Pair] = map(dataset.pair, seeds)
            self.versions = dict(dataset.manifest.made_with)
        else:
            stage, difficulty = resolve_stage(data.stage or "mixed")
            self._renderer = Renderer(data.render, workers)
            self.versions = self._renderer.versions
            seeds = stage_seeds(split, stage)[position:]
            self.pairs = self._renderer.imap(plan_pair(seed, difficulty) for seed in seeds)
        self.versions |= library_versions()

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()


def _quotas(tasks: Sequence[str], count: int) -> dict[str, int]:
    share, rest = divmod(count, len(tasks))
    return {name: share + (index < rest) for index, name in enumerate(tasks)}
