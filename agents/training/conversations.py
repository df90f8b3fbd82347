"""Instruction data as TRL's SFTTrainer takes it, in an order of our own."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from dig_env import format_boxes, instruction
from dig_env.agents.data.instructions.folder import ALIGN_MANIFEST
from dig_env.agents.policies.mllm import pair_messages
from dig_env.scenes import PairDataset
from dig_env.scenes.extras import extra

with extra("train"):
    from datasets import Dataset

BATCHES_SORTED = 20
"""Batches among which conversations are sorted by length, as transformers groups by length."""
WORDS_ALIKE = 25
"""Lengths that differ by fewer words count as one. Sorted by every character, a batch had answers
of one kind, all "metal" or all "rubber", and questions with such answers were not learned."""


class Conversations:
    """What a stage learns, one conversation an entry, in the order of training.

    Questions about one image are merged into one conversation, in random order: it is encoded once
    for all of them (as LLaVA-1.5, arXiv 2310.03744, merges them). Descriptions are not.
    Conversations of a batch have about the same number of images and of words.

    Args:
        folder: that ``dig-env questions`` wrote with ``--format trl``.
        tasks: whose training rows to take.
        turns: rows that are merged, at most.
        batch_size: conversations of a batch.
        questions: how many to see (up to a last conversation's); None: ``epochs`` times the rows.
        epochs: see there.
        pairs: dataset of pairs to find differences in, or None.
        pair_share: share of the conversations that are about such a pair.
        seed: of the order.

    Attributes:
        texts: all that is said in the folder's training rows, whatever their task.
        questions: number of questions in all, pairs not counted.

    Raises:
        FileNotFoundError: there is no such data.
        ValueError: it has no rows of a task.
    """

    def __init__(
        self,
        folder: str | Path,
        tasks: Sequence[str],
        *,
        turns: int = 1,
        batch_size: int = 1,
        questions: int | None = None,
        epochs: float = 1,
        pairs: str | Path | None = None,
        pair_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        table = _read(Path(folder))
        self._messages = table["messages"].to_pylist()
        self._images = table["images"]
        self.texts = [text for messages in self._messages for text in _said(messages)]
        of_task = np.array(table["task"].to_pylist())
        missing = sorted(set(tasks) - set(of_task))
        if missing:
            raise ValueError(
                f"{folder} has no training rows of {', '.join(missing)}; it has "
                f"{', '.join(sorted(set(of_task)))}"
            )
        rows = np.flatnonzero(np.isin(of_task, tasks))
        names = zip(table["pair_seed"].to_pylist(), table["side"].to_pylist(), strict=True)
        of_image = np.unique([f"{seed}{side}" for seed, side in names], return_inverse=True)[1]
        # A description answers whatever else is asked of its image: each is by itself.
        described = of_task == "description"
        of_image[described] = of_image.max() + 1 + np.arange(described.sum())
        rng = np.random.default_rng(seed)
        wanted = questions or round(epochs * len(rows))
        merged = _merged(rows, of_image, turns, rng)
        chosen: list[tuple[int, ...]] = []
        self.questions = 0
        while self.questions < wanted:
            chosen.append(next(merged))
            self.questions += len(chosen[-1])
        self._pairs = PairDataset(pairs) if pairs is not None else None
        if self._pairs is not None:
            count = round(len(chosen) * pair_share / (1 - pair_share))
            # Negative, to distinguish them from rows.
            seeds = -1 - np.array(self._pairs.pair_seeds(split="train"))
            drawn = itertools.islice(_shuffled(seeds, rng), count)
            chosen += [(int(seed),) for seed in drawn]
        self._order = self._batched(chosen, batch_size, rng)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Messages, and the images of their slots, decoded."""
        rows = self._order[position]
        if rows[0] < 0:
            return self._pair(-1 - rows[0])
        messages = list(self._messages[rows[0]])
        cells = list(self._images[rows[0]].as_py())
        for row in rows[1:]:
            messages += _without_image(self._messages[row])
            cells += self._images[row].as_py()[1:]
        images = [Image.open(io.BytesIO(cell["bytes"]), formats=["PNG"]) for cell in cells]
        return {"messages": messages, "images": images}

    @property
    def dataset(self) -> Dataset:
        """The conversations as TRL takes them, made on demand."""

        def take(asked: dict[str, list[int]]) -> dict[str, list[Any]]:
            made = [self[position] for position in asked["position"]]
            return {name: [row[name] for row in made] for name in ("messages", "images")}

        return Dataset.from_dict({"position": range(len(self))}).with_transform(take)

    def _pair(self, seed: int) -> dict[str, Any]:
        assert self._pairs is not None
        pair = self._pairs.pair(seed)
        answer = format_boxes(pair.boxes_unit)
        said = {"role": "assistant", "content": [{"type": "text", "text": answer}]}
        return {
            "messages": [*pair_messages(instruction(difficulty=pair.plan.difficulty)), said],
            "images": [Image.fromarray(image) for image in (pair.image_a, pair.image_b)],
        }

    def _batched(
        self, chosen: list[tuple[int, ...]], batch_size: int, rng: np.random.Generator
    ) -> list[tuple[int, ...]]:
        """The conversations in random order, those of a batch of about equal length."""
        mixed = [chosen[index] for index in rng.permutation(len(chosen))]
        span = BATCHES_SORTED * batch_size
        ordered: list[tuple[int, ...]] = []
        for start in range(0, len(mixed), span):
            near = sorted(mixed[start : start + span], key=self._length)
            batches = [near[at : at + batch_size] for at in range(0, len(near), batch_size)]
            for index in rng.permutation(len(batches)):
                ordered += batches[index]
        return ordered

    def _length(self, rows: tuple[int, ...]) -> tuple[int, int]:
        """Images of a conversation, and about how many words."""
        if rows[0] < 0:
            return 2, 0
        crops = sum(len(self._images[row]) - 1 for row in rows)
        words = sum(len(text.split()) for row in rows for text in _said(self._messages[row]))
        return 1 + crops, words // WORDS_ALIKE


def _merged(
    rows: np.ndarray, of_image: np.ndarray, turns: int, rng: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Up to ``turns`` rows of one image at a time, endlessly, none again before all were seen."""
    while True:
        mixed = rng.permutation(rows)
        by_image = mixed[np.argsort(of_image[mixed], kind="stable")]
        ends = np.flatnonzero(np.diff(of_image[by_image])) + 1
        chunks = [
            tuple(part.tolist())
            for group in np.split(by_image, ends)
            for part in np.array_split(group, -(-len(group) // turns))
        ]
        for index in rng.permutation(len(chunks)):
            yield chunks[index]


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> Iterator[Any]:
    while True:
        yield from rng.permutation(values)


def _without_image(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row's messages as further turns about an image that was shown already."""
    first = messages[0]["content"]
    assert first[0]["type"] == "image", "a row begins with its image"
    return [{"role": "user", "content": first[1:]}, *messages[1:]]


def _read(folder: Path) -> Any:
    if not (folder / ALIGN_MANIFEST).is_file():
        raise FileNotFoundError(
            f"{folder} holds no instruction data: write it with dig-env questions "
            f"--count 10000 --out {folder}"
        )
    files = sorted((folder / "data").glob("train-*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no training rows for TRL: write them with dig-env questions, "
            "--format trl and --split train"
        )
    return pq.ParquetDataset(files).read(["messages", "images", "task", "pair_seed", "side"])


def _said(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        yield from (part["text"] for part in message["content"] if part["type"] == "text")
