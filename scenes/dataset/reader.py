"""Read rendered pairs back from a folder."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dig_env.scenes.arguments import whole
from dig_env.scenes.dataset.manifest import DataFile, Manifest
from dig_env.scenes.dataset.rows import decode, read_changes, read_column, read_row
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.render.settings import RenderSettings


class PairDataset:
    """The pairs in a folder that ``render_dataset`` or ``dig-env render`` wrote.

    Opening reads the manifest only. Each pair is read and decoded when it is asked for, in 2 to
    3 ms at 320x240; nothing is kept. May be shared among threads and sent to other processes.

    Args:
        folder: holds ``manifest.json``.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: the manifest is damaged, or of another format version.

    Example:
        >>> dataset = PairDataset("pairs")                                  # doctest: +SKIP
        >>> pair = dataset.pair(dataset.pair_seeds("single", "train")[0])   # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()  # the process may go elsewhere
        self.manifest = Manifest.load(self.folder)
        self._files = sorted(self.manifest.files, key=lambda file: file.first_pair_seed)
        self._first_seeds = [file.first_pair_seed for file in self._files]

    @property
    def settings(self) -> RenderSettings:
        """What all pairs were rendered with."""
        return self.manifest.settings

    @property
    def stages(self) -> dict[str, Difficulty]:
        """Difficulty of each stage that has pairs, by name."""
        return {file.stage: self.manifest.stages[file.stage] for file in self._files}

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have pairs."""
        return tuple(dict.fromkeys(file.split for file in self._files))

    def pair_seeds(self, stage: str | None = None, split: str | None = None) -> Sequence[int]:
        """Seeds of the pairs of a stage and split, ascending; None stands for all.

        Raises:
            ValueError: there is no pair of this stage and split.
        """
        files = self._files_of(stage, split)
        if not files and (stage is not None or split is not None):
            there = sorted({f"{file.split}/{file.stage}" for file in self._files})
            raise ValueError(
                f"{self.folder} has no pairs of stage={stage!r}, split={split!r}; it has "
                f"{', '.join(there) or 'none at all'}. Render them with 'dig-env render'"
            )
        return [seed for file in files for seed in _seeds(file)]

    def stage_of(self, pair_seed: int) -> str:
        """Name of a pair's stage.

        Raises:
            ValueError: the pair is not in the folder.
        """
        return self._place_of(pair_seed)[0].stage

    def pair(self, pair_seed: int) -> Pair:
        """One pair, equal to what the renderer gave.

        Raises:
            ValueError: the pair is not in the folder, or its bytes are damaged.
            FileNotFoundError: the manifest names its file, but it is gone.
        """
        file, index = self._place_of(pair_seed)
        with self._damage_explained(file, f"pair seed {pair_seed} in "):
            row = read_row(self.folder / file.path, index)
            if row["pair_seed"] != pair_seed:
                raise ValueError(f"its place holds pair seed {row['pair_seed']}")
            return decode(row)

    def changes(self) -> dict[int, list[str]]:
        """The change types of every pair's differences, by pair seed; no picture is decoded.

        Raises:
            ValueError, FileNotFoundError: a file is damaged, or gone; see ``pair``.
        """
        found: dict[int, list[str]] = {}
        for file in self._files:
            with self._damage_explained(file):
                rows = read_changes(self.folder / file.path)
                found |= zip(_seeds(file), rows, strict=True)
        return found

    def column(self, name: str, stage: str | None = None, split: str | None = None) -> list[Any]:
        """A column that holds no picture, such as "plan", in the order of ``pair_seeds``.

        Raises:
            ValueError, FileNotFoundError: a file is damaged, or gone; see ``pair``.
        """
        found: list[Any] = []
        for file in self._files_of(stage, split):
            with self._damage_explained(file):
                found += read_column(self.folder / file.path, name)
        return found

    def __len__(self) -> int:
        return sum(file.rows for file in self._files)

    def __iter__(self) -> Iterator[Pair]:
        """All pairs, by pair seed."""
        return (self.pair(seed) for file in self._files for seed in _seeds(file))

    @contextlib.contextmanager
    def _damage_explained(self, file: DataFile, what: str = "") -> Iterator[None]:
        """Say of a file that is gone or damaged what can be done."""
        path = self.folder / file.path
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is gone: run the 'dig-env render' that made {self.folder} again, which "
                "renders it again"
            ) from error
        except Exception as error:  # damaged bytes can break any of the decoders in many ways
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{what}{path} is damaged ({reason}): 'dig-env audit {self.folder}' lists the rest"
            ) from error

    def _files_of(self, stage: str | None, split: str | None) -> list[DataFile]:
        """The files of a stage and split; None stands for all."""
        return [
            file
            for file in self._files
            if stage in (None, file.stage) and split in (None, file.split)
        ]

    def _place_of(self, pair_seed: int) -> tuple[DataFile, int]:
        """The file that holds a pair, and its row there."""
        seed = whole("pair_seed", pair_seed)
        place = bisect.bisect_right(self._first_seeds, seed) - 1
        if place < 0 or seed not in _seeds(self._files[place]):
            raise ValueError(
                f"pair_seed={pair_seed!r} is not among the {len(self)} of {self.folder}; "
                "pair_seeds() lists them"
            )
        return self._files[place], seed - self._files[place].first_pair_seed


def _seeds(file: DataFile) -> range:
    return range(file.first_pair_seed, file.first_pair_seed + file.rows)
