"""Where the tests find files of this repository."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
