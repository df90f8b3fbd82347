"""Which Python, or which blender, the render workers run in.

Blender's Python module exists for one Python version a release and wants an old numpy. The workers
therefore need nothing but Blender, and may live in an interpreter of their own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

VARIABLE = "DIG_ENV_BLENDER"
"""Environment variable: path of a Python that has bpy, or of a ``blender`` executable."""


def blender_command(script: Path) -> list[str]:
    """The command line, without its last argument, that runs ``script`` in Blender.

    The first that there is of: what ``DIG_ENV_BLENDER`` names; this Python, if it has bpy; the
    Python that ``dig-env install-blender`` made. Else this Python, whose worker will say that
    Blender is missing.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen and Path(chosen).name.lower().startswith("blender"):
        options = ["--background", "--factory-startup", "--python-exit-code", "1"]
        return [chosen, *options, "--python", str(script), "--"]
    return [chosen or _python_with_bpy(), str(script)]


def blender_environment() -> dict[str, str]:
    """The environment of the workers: this process's, less what would mislead another Python."""
    environment = dict(os.environ)
    if blender_command(Path())[0] != sys.executable:
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            environment.pop(name, None)
    return environment


def installed_python() -> Path:
    """Where ``dig-env install-blender`` puts its Python: in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dig-env" / "blender-4.5" / "bin" / "python"


def _python_with_bpy() -> str:
    installed = installed_python()
    if importlib.util.find_spec("bpy") is None and installed.exists():
        return str(installed)
    return sys.executable
