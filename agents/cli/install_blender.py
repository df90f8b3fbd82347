"""``dig-env install-blender``: a Python with Blender, whatever Python runs the rest."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from dig_env.agents.cli.doctor import check_rendering
from dig_env.agents.cli.output import Output, Printed
from dig_env.scenes import BlenderNotFoundError
from dig_env.scenes.files import locked, write_folder_whole
from dig_env.scenes.render.interpreter import (
    DEFAULT_BLENDER,
    VARIABLE,
    blender_program,
    installed_python,
)

PYTHONS = {"4.5": "3.11", "5.0": "3.11", "5.1": "3.13", "5.2": "3.13", "5.3": "3.13"}
"""The one Python that each Blender is built for as a module."""


def install_blender(
    blender: Literal["4.5", "5.0", "5.1", "5.2", "5.3"] = DEFAULT_BLENDER,
    output: Printed = Output(),
) -> None:
    """Make a Python with Blender for the render workers, in the user's cache folder.

    Args:
        blender: its version. The workers use 4.5; for another one, set DIG_ENV_BLENDER.
        output: what is printed.
    """
    python = installed_python(blender)
    folder = python.parent.parent
    if python.exists():
        output.note(f"there already; delete it to make it again: {folder}")
    else:
        output.note("downloading about 0.4 GB, which takes some minutes ...")
        make_interpreter(python, blender)
    first = blender_program()
    os.environ[VARIABLE] = str(python)
    finding = check_rendering()
    if not finding.ok:
        raise BlenderNotFoundError(f"{folder}: {finding.detail}")
    output.say(finding.detail)
    if first != str(python):
        output.note(f"the workers still run in {first}; for this one, set {VARIABLE}={python}")
    size_gb = sum(file.lstat().st_size for file in folder.rglob("*")) / 1e9
    output.result({"gigabytes": round(size_gb, 1), "used": first == str(python)}, blender=folder)


def make_interpreter(python: Path, blender: str) -> None:
    """Make a virtual environment whose Python is ``python`` and has bpy, whole or not at all.

    Args:
        python: to make.
        blender: version of bpy, a key of ``PYTHONS``.

    Raises:
        BlenderNotFoundError: it could not be made; the message says what to do.
    """
    folder = python.parent.parent

    def fill(beside: Path) -> None:
        with tempfile.TemporaryDirectory() as tools:
            for command in _commands(beside, tools, blender):
                if subprocess.run(command, stdout=2).returncode != 0:
                    raise BlenderNotFoundError(
                        f"'{shlex.join(command)}' failed; see above why, then run "
                        f"'dig-env install-blender' again, or set {VARIABLE} to a Blender of yours"
                    )

    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):  # who comes second finds it made
        if not python.exists():
            write_folder_whole(folder, fill)


def _commands(folder: Path, tools: str, blender: str) -> list[list[str]]:
    """The commands that fill the folder: with a Python that is there, or with uv, which can
    fetch one. Where uv is missing too, pip puts it into the folder ``tools``."""
    version = PYTHONS[blender]
    package = f"bpy=={blender}.*"
    python = str(folder / "bin" / "python")
    # 'pip install uv' puts it beside this Python, which need not be on the PATH.
    beside = os.path.dirname(sys.executable)
    uv = shutil.which("uv", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    is_ours = "{}.{}".format(*sys.version_info) == version
    base = sys.executable if is_ours else shutil.which(f"python{version}")
    if uv is None and base is not None:
        # -E: PYTHONPATH and the like were set for the Python that runs this.
        return [
            [base, "-E", "-m", "venv", str(folder)],
            [python, "-E", "-m", "pip", "install", package],
        ]
    get_uv = [] if uv else [[sys.executable, "-m", "pip", "install", "--target", tools, "uv"]]
    uv = uv or os.path.join(tools, "bin", "uv")
    return [
        *get_uv,
        [uv, "venv", "--python", version, str(folder)],
        [uv, "pip", "install", "--python", python, package],
    ]
