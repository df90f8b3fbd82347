"""``dig-env doctor``: is this machine ready? Checks that each name a remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from dig_env.agents.cli.output import Output, Printed
from dig_env.scenes import STAGES, Renderer, RenderSettings, plan_pair
from dig_env.scenes.machine import available_memory, resources
from dig_env.scenes.render.interpreter import (
    VARIABLE,
    blender_program,
    installed_python,
    is_executable,
    python_command,
    remedy,
)

# The system libraries that Blender links to and a slim Debian lacks.
DEBIAN_PACKAGES = {
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXext.so.6": "libxext6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libGL.so.1": "libgl1",
}
CHECKED_LIBRARIES = ("gymnasium", "numpy", "torch", "transformers", "trl", "datasets")
"""All but the first two come with the extra ``train``."""
LEAST_FREE_GB = 2.0
LEAST_MEMORY_GB = 3.0
"""What ``dig-env train`` takes with its defaults and two render workers."""
SHARED_MEMORY = "/dev/shm"
LEAST_SHARED_GB = 0.06


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        name: what was checked.
        ok: whether all that must be there is.
        detail: what was found.
        remedy: what to do if it is not ok.
        hint: what may be done if it is.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    hint: str = ""

    @property
    def advice(self) -> str:
        """What to do now, or ""."""
        return self.hint if self.ok else self.remedy

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        names = ("name", "ok", "detail", "advice")
        return {name: getattr(self, name) for name in names}


def doctor(output: Printed = Output()) -> None:
    """Check Python, libraries, Blender, disk, memory and GPU, and say what to do.

    Args:
        output: what is printed.
    """
    findings = []
    for finding in diagnose():
        findings.append(finding)
        mark = ("ok  ", "green") if finding.ok else ("FAIL", "red")
        output.say(Text.assemble(mark, f" {finding.name}: {finding.detail}"))
        if finding.advice:
            output.say(f"     {finding.advice}")
    sound = all(finding.ok for finding in findings)
    output.result({"ok": sound, "findings": [finding.to_json() for finding in findings]})
    sys.exit(0 if sound else 1)


def diagnose() -> Iterator[Finding]:
    """Run all checks, one finding at a time (the last renders a pair and takes seconds)."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _libraries,
        _blender,
        _system_libraries,
        _disk,
        _memory,
        _compute,
    )
    for check in checks:
        yield check()
    yield check_rendering()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    remedy = "install Python 3.11 or newer and make the environment with it"
    return Finding("Python", sys.version_info >= (3, 11), f"{version}, {sys.executable}", remedy)


def _libraries() -> Finding:
    versions, missing = [], []
    for name in CHECKED_LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = ", ".join(versions) + "".join(f", no {name}" for name in missing)
    hint = "to train a model, run: pip install 'dig-env[train]'" if missing else ""
    return Finding("Libraries", True, detail, hint=hint)


def _blender() -> Finding:
    program = blender_program()
    whose = {
        os.environ.get(VARIABLE): f"named by {VARIABLE}",
        str(installed_python()): "made by 'dig-env install-blender'",
    }.get(program, "this Python")
    missing = "" if _blender_binary(program) else "no Blender in "
    return Finding("Blender", not missing, f"{missing}{program} ({whose})", remedy())


def _blender_binary(program: str) -> str:
    """The file that links to what Blender needs: bpy's or the executable; "" if there is none."""
    if is_executable(program):
        return shutil.which(program) or ""
    if program == sys.executable:
        spec = importlib.util.find_spec("bpy")
        return (spec and spec.origin) or ""
    find = "import importlib.util; print(importlib.util.find_spec('bpy').origin)"
    try:
        command = [*python_command(program), "-c", find]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _system_libraries() -> Finding:
    name = "System libraries"
    binary = _blender_binary(blender_program())
    if not binary or shutil.which("ldd") is None:
        return Finding(name, True, "not checked (needs Blender and ldd)")
    output = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout
    missing = sorted(
        {line.split()[0] for line in output.splitlines() if line.endswith("not found")}
    )
    packages = " ".join(DEBIAN_PACKAGES.get(library, library) for library in missing)
    return Finding(
        name,
        not missing,
        f"missing: {', '.join(missing)}" if missing else "all that Blender links to are there",
        f"on Debian or Ubuntu: apt-get install {packages}",
    )


def _disk() -> Finding:
    least = dict.fromkeys((str(Path.cwd()), tempfile.gettempdir()), LEAST_FREE_GB)
    remedy = f"free some space: runs and checkpoints want {LEAST_FREE_GB:.0f} GB"
    if os.access(SHARED_MEMORY, os.W_OK):  # where the workers hand over images
        least[SHARED_MEMORY] = LEAST_SHARED_GB
        remedy += f", and {SHARED_MEMORY} {LEAST_SHARED_GB} GB (docker run --shm-size 1g)"
    free = {folder: shutil.disk_usage(folder).free / 1e9 for folder in least}
    detail = ", ".join(f"{gb:.1f} GB free at {folder}" for folder, gb in free.items())
    return Finding("Disk", all(free[name] >= gb for name, gb in least.items()), detail, remedy)


def _memory() -> Finding:
    free_gb = available_memory() / 1e9
    return Finding(
        "Memory",
        free_gb >= LEAST_MEMORY_GB,
        f"{free_gb:.1f} GB free",
        f"end other programs or raise the container's limit: training the embedded policy takes "
        f"{LEAST_MEMORY_GB:.0f} GB",
    )


def _compute() -> Finding:
    workers = Renderer(workers=None).workers  # starts none
    detail = f"{resources()}: {workers} Blender process(es) by default; GPU: "
    try:
        import torch
    except ModuleNotFoundError:
        return Finding("Compute", True, f"{detail}not asked for (no torch)")
    except ImportError as error:
        remedy = "install another build of torch into this Python"
        return Finding("Compute", False, f"torch cannot be imported ({error})", remedy)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    hint = ""
    if not gpus and shutil.which("nvidia-smi") is not None:
        hint = (
            f"nvidia-smi is there, but torch {torch.__version__} sees no GPU: install a CUDA build "
            "of it, and a driver that is new enough (nvidia-smi shows its version)"
        )
    return Finding("Compute", True, detail + (", ".join(gpus) or "none (not needed)"), hint=hint)


def check_rendering() -> Finding:
    """Render a small pair in the Blender that the workers would use."""
    try:
        with Renderer(RenderSettings(width=64, height=48, quality="draft")) as renderer:
            renderer.render(plan_pair(0, STAGES["single"]))
            versions, (gpu,) = renderer.versions, renderer.worker_gpus
    except Exception as error:
        return Finding("Rendering", False, str(error), "fix what is named above and try again")
    where = ", ".join(filter(None, (versions["blender"], versions["device"], gpu)))
    detail = f"Blender rendered a pair ({where})"
    return Finding("Rendering", True, detail)
