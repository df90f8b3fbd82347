"""Small datasets for the frameworks' tests, rendered once by the main environment's Blender."""

import os
import subprocess
from pathlib import Path

import pytest

from dig_env.scenes import PairDataset, RenderSettings, render_dataset

SMALL = RenderSettings(width=128, height=96, quality="draft", device="cpu")
MAIN_PYTHON = Path(__file__).parents[2] / ".venv/bin/python"


# Blender's Python needs NumPy 1, which frameworks have given up.
os.environ.setdefault("DIG_ENV_BLENDER", str(MAIN_PYTHON))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """A folder of six pairs with one to four differences, 128x96."""
    folder = tmp_path_factory.mktemp("pairs")
    render_dataset(folder, {"mixed": 6}, settings=SMALL)
    return folder


@pytest.fixture(scope="session")
def verl_pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verl") / "pairs"
    render_dataset(folder, {"single": 3, "mixed": 4}, "train", SMALL)
    render_dataset(folder, {"single": 2}, "validation", SMALL)
    return PairDataset(folder)


@pytest.fixture(scope="session")
def verl_export(verl_pairs, tmp_path_factory):
    from dig_env.agents.data.export import export_dataset  # which is not in every environment

    return export_dataset(verl_pairs, tmp_path_factory.mktemp("verl") / "out", "verl")


@pytest.fixture
def verl_run(verl_export, tmp_path):
    """Runs a script of verl's export; returns the words of each call of python3, which only records
    them and leaves a checkpoint where asked to."""

    def call(script, *arguments):
        calls = tmp_path / "calls"
        python = tmp_path / "bin" / "python3"
        python.parent.mkdir()
        python.write_text(
            "#!/usr/bin/env bash\n"
            f'printf "%s\\t" "$@" >> {calls}; echo >> {calls}\n'
            'for word in "$@"; do case $word in trainer.default_local_dir=*)\n'
            "    at=${word#*=}; mkdir -p $at; echo 7 > $at/latest_checkpointed_iteration.txt ;;\n"
            "esac; done\n"
        )
        python.chmod(0o755)
        subprocess.run(["cp", "-r", str(verl_export), str(tmp_path / "out")], check=True)
        subprocess.run(
            ["bash", str(tmp_path / "out" / script), *arguments],
            env=os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}"},
            check=True,
        )
        return [line.split("\t")[:-1] for line in calls.read_text().splitlines()]

    return call


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """Two pairs of two stages of DiG-Bench, the second with pairs in which nothing may differ."""
    from dig_env.agents.evaluation.bench.make import make_benchmark  # not in every environment

    folder = tmp_path_factory.mktemp("bench")
    make_benchmark(folder, ("320x240",), 2, ("dual", "nuisance"), workers=1)
    return folder
