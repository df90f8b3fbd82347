"""Pairs of all splits, rendered once, and an export of them in each format."""

import pytest
from exports import COUNTS
from small import SMALL

from dig_env.agents.data.export import FORMATS, export_dataset
from dig_env.scenes import PairDataset, render_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "pairs"
    for split, counts in COUNTS.items():
        render_dataset(folder, counts, split, SMALL)
    return PairDataset(folder)


@pytest.fixture(scope="session")
def exported(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return {name: export_dataset(dataset, folder / name, name) for name in FORMATS}
