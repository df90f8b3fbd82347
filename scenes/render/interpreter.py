"""Which Python, or which blender, the render workers run in.

Blender's Python module exists for one Python version a release and wants an old numpy. The workers
therefore need nothing but Blender, and may live in an interpreter of their own: docs/blender.md.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Final

VARIABLE = "DIG_ENV_BLENDER"
"""Environment variable: path of a Python that has bpy, or of a ``blender`` executable."""

DEFAULT_BLENDER: Final = "4.5"
"""What ``dig-env install-blender`` installs where no version is asked for."""


def remedy() -> str:
    """What to do when there is no Blender, for the end of an error message."""
    if os.environ.get(VARIABLE):
        return (
            f"set {VARIABLE} to a Python that has bpy or to a blender executable, or unset it and "
            "run: dig-env install-blender"
        )
    return "run: dig-env install-blender"


def blender_program() -> str:
    """The program that the workers run in.

    The first that there is of: what ``DIG_ENV_BLENDER`` names; this Python, if it has bpy; the
    Python that ``dig-env install-blender`` made. Else this Python, whose worker will say that
    Blender is missing.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return chosen
    installed = installed_python()
    if importlib.util.find_spec("bpy") is None and installed.exists():
        return str(installed)
    return sys.executable


def blender_command(script: Path, threads: int) -> list[str]:
    """The command line, without its last argument, that runs ``script`` in Blender.

    Args:
        script: needs bpy and the standard library alone.
        threads: of a blender executable; a script that imports bpy sees to its own.
    """
    program = blender_program()
    if is_executable(program):
        options = ["--background", "--factory-startup", "--threads", str(threads)]
        return [program, *options, "--python-exit-code", "1", "--python", str(script), "--"]
    return [*python_command(program), str(script)]


def is_executable(program: str) -> bool:
    """Is it Blender itself rather than a Python? Its name tells."""
    return Path(program).name.lower().startswith("blender")


def python_command(program: str) -> list[str]:
    """The Python, told to ignore PYTHONPATH and the like if they were set for another one."""
    return [program] if program == sys.executable else [program, "-E"]


def installed_python(blender: str = DEFAULT_BLENDER) -> Path:
    """Where ``dig-env install-blender`` puts its Python: in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dig-env" / f"blender-{blender}" / "bin" / "python"
