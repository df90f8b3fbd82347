"""A small dataset for all frameworks' tests, rendered once by the main environment's Blender."""

import os
from pathlib import Path

import pytest

from dig_env.scenes import RenderSettings, render_dataset

MAIN_PYTHON = Path(__file__).parents[2] / ".venv/bin/python"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A folder of six pairs with one to four differences, 128x96."""
    # Blender's Python needs NumPy 1, which frameworks have given up.
    os.environ.setdefault("DIG_ENV_BLENDER", str(MAIN_PYTHON))
    folder = tmp_path_factory.mktemp("pairs")
    render_dataset(folder, {"mixed": 6}, settings=RenderSettings(128, 96, "draft", "cpu"))
    return folder
