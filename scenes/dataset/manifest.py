"""``manifest.json``: what a folder of pairs holds, and which pair seed is in which file."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import importlib.metadata
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig_env.scenes.files import inside
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.plans.splits import pair_seed_range
from dig_env.scenes.plans.stages import BUILT_IN_STAGES
from dig_env.scenes.render.settings import RenderSettings
from dig_env.scenes.version import __version__

FORMAT_VERSION = 1
"""Rises when the columns or the layout of the folder change."""
MANIFEST = "manifest.json"
DATA = "data"
SEEDS_PER_STAGE = 2**24
"""Each stage owns a slot of this many pair seeds in each split."""
NAMED_SLOTS = 16
"""The first slots are for ``BUILT_IN_STAGES``, in their order."""
SLOTS_PER_SPLIT = 2**24
PIXEL_LIBRARIES = ("numpy", "pillow", "pyarrow", "pyoidn")


@dataclass(frozen=True)
class DataFile:
    """One Parquet file: pairs of consecutive seeds.

    Attributes:
        path: relative to the folder, such as "data/train-single-00000.parquet".
        split, stage: whose pairs it holds.
        first_pair_seed: seed of row 0; row i has this seed plus i.
        rows: number of pairs.
        bytes, sha256: size and checksum of the file.
    """

    path: str
    split: str
    stage: str
    first_pair_seed: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says.

    Attributes:
        settings: what all pairs were rendered with.
        pairs_per_file: rows of every file but a stage's last.
        stages: difficulty of each stage, by name.
        asked: number of pairs asked for, by split and stage.
        made_with: versions of dig-env, Blender and libraries, the device ("CPU" or a GPU) and the
            processor's instruction set; empty before the first pair.
        files: the files that are there, by path.
    """

    settings: RenderSettings
    pairs_per_file: int
    stages: dict[str, Difficulty]
    asked: dict[str, dict[str, int]]
    made_with: dict[str, str]
    files: tuple[DataFile, ...]

    @property
    def missing(self) -> int:
        """Pairs that were asked for and are not there yet."""
        there: collections.Counter[tuple[str, str]] = collections.Counter()
        for file in self.files:
            there[file.split, file.stage] += file.rows
        return sum(
            max(0, count - there[split, stage])
            for split, counts in self.asked.items()
            for stage, count in counts.items()
        )

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "settings": dataclasses.asdict(self.settings),
            "pairs_per_file": self.pairs_per_file,
            "stages": {name: stage.to_json() for name, stage in sorted(self.stages.items())},
            "asked": self.asked,
            "made_with": self.made_with,
            "files": [dataclasses.asdict(file) for file in self.files],
        }

    @property
    def text(self) -> str:
        """The content of ``manifest.json``: the same for equal manifests."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read a folder's manifest.

        Raises:
            FileNotFoundError: it has none.
            ValueError: it is damaged, or of another format version.
        """
        path = folder / MANIFEST
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{folder} holds no {MANIFEST}: give a folder that 'dig-env render' wrote, or run "
                "it again with its --out there if only data files were copied in"
            ) from None
        try:
            fields = json.loads(text)
            version = fields.pop("format_version")
            if version == FORMAT_VERSION:
                manifest = cls._from_json(fields)
                for file in manifest.files:
                    inside(folder, file.path)
                return manifest
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}): delete it and run 'dig-env render' with the same "
                "arguments again, which writes it from the data files"
            ) from error
        raise ValueError(
            f"{path} has format version {version!r}, and this dig-env reads {FORMAT_VERSION}: "
            "render into another folder, or read it with the dig-env that wrote it"
        )

    @classmethod
    def _from_json(cls, fields: dict[str, Any]) -> Manifest:
        stages = fields["stages"].items()
        return cls(
            **fields
            | {
                "settings": RenderSettings(**fields["settings"]),
                "stages": {name: Difficulty.from_json(stage) for name, stage in stages},
                "files": tuple(DataFile(**file) for file in fields["files"]),
            }
        )


def stage_seeds(split: str, stage: str) -> range:
    """The pair seeds of a stage in a split; pair i of a dataset has the i-th of them.

    Users' own stages get a slot by a hash of their name, so that every machine chooses the same.
    """
    if stage in BUILT_IN_STAGES:
        slot = BUILT_IN_STAGES.index(stage)
    else:
        digest = hashlib.sha256(stage.encode()).digest()
        slot = NAMED_SLOTS + int.from_bytes(digest[:8]) % (SLOTS_PER_SPLIT - NAMED_SLOTS)
    return pair_seed_range(split)[slot * SEEDS_PER_STAGE : (slot + 1) * SEEDS_PER_STAGE]


def file_path(split: str, stage: str, index: int) -> str:
    """Path of the ``index``-th file of a stage in a split, relative to the folder."""
    return f"{DATA}/{split}-{stage}-{index:05d}.parquet"


_FILE_NAME = re.compile(r"([a-z]+)-([a-z0-9_]+)-(\d{5,})\.parquet")


def parse_file_name(name: str) -> tuple[str, str, int]:
    """(split, stage, index) of a data file's name.

    Raises:
        ValueError: it is not the name of a data file.
    """
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{DATA}/{name} is not named like train-single-00000.parquet: take it out of the folder"
        )
    return match[1], match[2], int(match[3])


def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide plans, pixels or files."""
    versions = {name: importlib.metadata.version(name) for name in PIXEL_LIBRARIES}
    return {"dig-env": __version__} | versions
