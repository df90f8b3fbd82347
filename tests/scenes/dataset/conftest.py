"""Datasets that the tests of this folder read."""

import shutil
from pathlib import Path

import pytest
from tiny_datasets import make


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """13 train pairs of two stages and 3 validation pairs, rendered in three calls."""
    folder = tmp_path_factory.mktemp("dataset") / "pairs"
    make(folder, {"single": 8})
    make(folder, {"mixed": 5})
    make(folder, {"dual": 3}, "validation")
    return folder


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(folder, tmp_path / "copy")
