"""Datasets of 64x48 pairs, two a file."""

import subprocess
import sys
from pathlib import Path

from dig_env.scenes import RenderSettings, render_dataset

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")
COUNTS = {"single": 8, "mixed": 5}


def make(folder, counts=COUNTS, split="train", **options):
    return render_dataset(
        folder, counts, split, TINY, **{"pairs_per_file": 2, "workers": 1} | options
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden and temporary ones included."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# A shell that runs the tests in the background has its children ignore SIGINT.
MAIN = """
import resource
import signal
from dig_env.agents.cli.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def start(*arguments, command="render"):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
