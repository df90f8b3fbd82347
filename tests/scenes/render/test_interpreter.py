"""Blender in another Python, or as an executable: the same pairs, and errors that help."""

import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import psutil
import pytest
from paths import ROOT
from small import SMALL

import dig_env.scenes.render.process as process_module
from dig_env.agents.cli import doctor, install_blender
from dig_env.scenes import STAGES, BlenderNotFoundError, Renderer, RenderError, plan_pair
from dig_env.scenes.render.interpreter import VARIABLE, blender_program, installed_python
from dig_env.scenes.render.process import WorkerProcess

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PLAN = plan_pair(3, STAGES["mixed"])

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None, reason="compares with the bpy of this Python"
)


def bare_python(folder: Path) -> Path:
    """A Python that has the standard library and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def link_packages(python: Path, names) -> None:
    """Give a bare Python some of this one's packages."""
    (site_packages,) = python.parent.parent.glob("lib/python*/site-packages")
    for name in names:
        (site_packages / name).symlink_to(SITE_PACKAGES / name)


def program(path: Path, script: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def blender_python(tmp_path_factory) -> str:
    """A Python that has bpy and nothing else: no numpy either."""
    python = bare_python(tmp_path_factory.mktemp("blender"))
    link_packages(python, ["bpy"])
    return str(python)


@pytest.fixture(scope="module")
def trainer_python(tmp_path_factory) -> str:
    """A Python that has everything but bpy."""
    python = bare_python(tmp_path_factory.mktemp("trainer"))
    link_packages(python, (p.name for p in SITE_PACKAGES.iterdir() if "bpy" not in p.name))
    return str(python)


@pytest.fixture(scope="module")
def bytes_here() -> bytes:
    """The pair as the bpy of this Python renders it."""
    assert VARIABLE not in os.environ
    return rendered()[0]


def rendered() -> tuple[bytes, list[str]]:
    """All bytes of a pair, and the command line of the worker that rendered it."""
    with Renderer(SMALL) as renderer:
        pair = renderer.render(PLAN)
        (pid,) = renderer.worker_pids
        arrays = (pair.image_a, pair.image_b, pair.ids_a, pair.ids_b)
        return b"".join(array.tobytes() for array in arrays), psutil.Process(pid).cmdline()


def test_another_python_renders_the_same_bytes(blender_python, bytes_here, monkeypatch):
    monkeypatch.setenv(VARIABLE, blender_python)
    pixels, command = rendered()
    assert pixels == bytes_here
    assert command[0] == blender_python


def test_what_is_set_for_the_trainers_python_does_not_mislead_another(
    blender_python, bytes_here, monkeypatch, tmp_path
):
    (tmp_path / "json.py").write_text("raise RuntimeError('the module of another Python')")
    monkeypatch.setenv(VARIABLE, blender_python)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    assert rendered()[0] == bytes_here


def test_a_blender_executable_renders_the_same_bytes(bytes_here, monkeypatch, tmp_path):
    """A script that does with its options what Blender does stands in for the executable."""
    blender = program(
        tmp_path / "blender-4.5",
        '[ "$1 $2" = "--background --factory-startup" ] || exit 9\n'
        "while [ $1 != --python ]; do shift; done; shift\n"
        f'exec {sys.executable} "$@"',
    )
    monkeypatch.setenv(VARIABLE, blender)
    assert rendered()[0] == bytes_here


def test_the_variable_comes_before_this_python_and_that_before_the_installed_one(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installed_python().parent.mkdir(parents=True)
    installed_python().touch()
    assert blender_program() == sys.executable
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert blender_program() == str(installed_python())
    monkeypatch.setenv(VARIABLE, "/opt/blender")
    assert blender_program() == "/opt/blender"


def test_a_program_that_is_not_there_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv(VARIABLE, "/nonexistent/python")
    with pytest.raises(BlenderNotFoundError, match="(?s)/nonexistent/python.*dig-env install"):
        rendered()


def test_a_python_without_bpy_is_named_with_the_remedy(trainer_python, monkeypatch):
    monkeypatch.setenv(VARIABLE, trainer_python)
    with pytest.raises(BlenderNotFoundError, match=f"(?s){trainer_python}.*dig-env install"):
        rendered()


@pytest.mark.parametrize("version", [(3, 4, 1), (5, 4, 0)])
def test_a_blender_of_another_age_is_refused(version, blender_python, monkeypatch, tmp_path):
    number = ".".join(map(str, version))
    (tmp_path / "bpy.py").write_text(
        f"class app:\n    version = {version}\n    version_string = '{number}'\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # this Python heeds it
    with pytest.raises(BlenderNotFoundError, match=f"(?s)Blender {number}, and 4.2 to 5.3"):
        rendered()


def test_a_program_that_exits_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, program(tmp_path / "odd", "echo no licence >&2; exit 3"))
    with pytest.raises(RenderError, match="(?s)odd.*exit status 3.*no licence.*DIG_ENV_BLENDER"):
        rendered()


def test_a_program_that_does_not_answer_is_given_one_try(monkeypatch, tmp_path):
    starts = tmp_path / "starts"
    monkeypatch.setenv(VARIABLE, program(tmp_path / "odd", f"echo >> {starts}; exec sleep 60"))
    monkeypatch.setattr(process_module, "GREETING_TIMEOUT_S", 0.5)
    with pytest.raises(RenderError, match="(?s)odd.*counts as hung.*DIG_ENV_BLENDER"):
        rendered()
    assert starts.read_text() == "\n"


def test_a_worker_that_hangs_while_it_starts_is_followed_by_another(
    monkeypatch, tmp_path, bytes_here
):
    """The first says that it is the worker, and then nothing more."""
    hung = tmp_path / "hung"
    greet = "import json, os, sys, time; n = json.loads(sys.argv[-1])['reply_fd']"
    greet += "; os.write(n, b'{}\\n'); time.sleep(60)"
    script = f"""
        shift  # -E
        if mkdir {hung}; then exec {sys.executable} -c "{greet}" "$@"; fi
        exec {sys.executable} "$@"
    """
    monkeypatch.setenv(VARIABLE, program(tmp_path / "sometimes", script))
    greet_it, limits_s = WorkerProcess._greeting, iter((1.0, 120.0))

    def greeting(worker):
        monkeypatch.setattr(process_module, "START_TIMEOUT_S", next(limits_s))
        return greet_it(worker)

    monkeypatch.setattr(WorkerProcess, "_greeting", greeting)
    assert rendered()[0] == bytes_here
    assert hung.exists()


def test_a_program_that_was_the_worker_before_may_hang_once(monkeypatch, tmp_path):
    """As when a worker is stopped in the moment in which it starts."""
    script = f"""
        shift  # -E
        if mkdir {tmp_path / "first"}; then exec {sys.executable} "$@"; fi
        if mkdir {tmp_path / "second"}; then exec sleep 60; fi
        exec {sys.executable} "$@"
    """
    monkeypatch.setenv(VARIABLE, program(tmp_path / "sometimes", script))
    greet_it, limits_s = WorkerProcess._greeting, iter((60.0, 0.5, 60.0))

    def greeting(worker):
        monkeypatch.setattr(process_module, "GREETING_TIMEOUT_S", next(limits_s))
        return greet_it(worker)

    monkeypatch.setattr(WorkerProcess, "_greeting", greeting)
    with Renderer(SMALL, workers=1) as renderer:
        before = renderer.render(PLAN)
        os.kill(renderer.worker_pids[0], signal.SIGKILL)
        after = renderer.render(PLAN)
    assert np.array_equal(before.image_b, after.image_b)
    assert next(limits_s, None) is None


def test_doctor_looks_at_the_blender_of_the_workers(blender_python, monkeypatch):
    monkeypatch.setenv(VARIABLE, blender_python)
    assert doctor._blender().ok
    assert doctor._blender_binary(blender_python).startswith(str(Path(blender_python).parents[1]))
    monkeypatch.setenv(VARIABLE, "/nonexistent/blender")
    assert not doctor._blender().ok
    assert "dig-env install-blender" in doctor._blender().remedy


def test_a_killed_install_is_followed_by_a_whole_one(trainer_python, tmp_path):
    """uv is played by a script that takes bpy from here, and kills its caller the first time."""
    killed = tmp_path / "killed"
    program(
        tmp_path / "uv",
        f'[ "$1" = venv ] && exec {sys.executable} -m venv --without-pip "$4"\n'
        f"[ -e {killed} ] || {{ touch {killed}; kill -9 $PPID; exit 1; }}\n"
        f'ln -s {SITE_PACKAGES / "bpy"} "${{4%/bin/python}}"/lib/python*/site-packages/',
    )
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }

    def dig_env(command):
        code = "from dig_env.agents.cli.main import main; main()"
        return subprocess.run(
            [trainer_python, "-c", code, command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    python = tmp_path / "cache" / "dig-env" / "blender-4.5" / "bin" / "python"
    assert dig_env("install-blender").returncode < 0
    assert not python.exists()
    result = dig_env("install-blender")
    assert result.returncode == 0, result.stdout + result.stderr
    assert str(python.parents[1]) in result.stdout and "rendered a pair" in result.stdout
    assert sorted(p.name for p in python.parents[2].iterdir()) == [".lock", "blender-4.5"]
    result = dig_env("doctor")
    assert f"ok   Blender: {python}" in result.stdout.replace("\n", ""), result.stdout
    assert "ok   Rendering" in result.stdout


def test_without_uv_and_python_3_11_pip_fetches_uv_first(monkeypatch, tmp_path):
    monkeypatch.setattr(install_blender.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(install_blender.sys, "version_info", (3, 13, 0))
    fetch, make, fill = install_blender._commands(
        tmp_path / "blender", str(tmp_path / "tools"), "4.5"
    )
    assert fetch[:4] == [sys.executable, "-m", "pip", "install"] and fetch[-1] == "uv"
    assert make[0] == fill[0] == str(tmp_path / "tools" / "bin" / "uv")
    assert make[1:] == ["venv", "--python", "3.11", str(tmp_path / "blender")]
    assert fill[-1] == "bpy==4.5.*"


def test_each_blender_is_installed_for_the_python_that_it_was_built_for(monkeypatch, tmp_path):
    monkeypatch.setattr(install_blender.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(install_blender.sys, "version_info", (3, 13, 0))
    make, fill = install_blender._commands(tmp_path / "blender", str(tmp_path / "tools"), "5.2")
    assert make == [sys.executable, "-E", "-m", "venv", str(tmp_path / "blender")]
    assert fill[-2:] == ["install", "bpy==5.2.*"]


def test_a_failed_install_is_quoted_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(install_blender, "_commands", lambda *_: [["false"]])
    with pytest.raises(BlenderNotFoundError, match="'false' failed.*dig-env install-blender"):
        install_blender.make_interpreter(tmp_path / "blender" / "bin" / "python", "4.5")
    assert not (tmp_path / "blender").exists()


def test_where_nothing_is_set_one_command_is_named(trainer_python, tmp_path):
    result = subprocess.run(
        [trainer_python, "-c", "import gymnasium as gym, dig_env; gym.make('DiG-v0').reset()"],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.stderr.strip().endswith("run: dig-env install-blender"), result.stderr
