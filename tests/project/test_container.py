"""The Dockerfiles fit the package: what they copy, install and start is there.

Building them takes minutes and a registry; docs/start.md says what was built.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from paths import ROOT

from dig_env.agents.cli.doctor import DEBIAN_PACKAGES

SPACE = ROOT / "environments/dig_openenv"
FILES = [ROOT / "Dockerfile", SPACE / "Dockerfile"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(file):
    """(instruction, arguments) of each step."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\s*\n", " ", "\n".join(lines))
    return [tuple(step.split(maxsplit=1)) for step in text.splitlines() if step.strip()]


def arguments(file, name):
    return [rest for instruction, rest in instructions(file) if instruction == name]


def let_through(file, name):
    """Whether .dockerignore leaves a file in the build's context."""
    ignored = False
    for line in (file.parent / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and fnmatch(name, pattern.lstrip("!")):
            ignored = not pattern.startswith("!")
    return not ignored


def test_what_is_copied_is_there_and_not_ignored():
    copied = [
        name
        for step in arguments(ROOT / "Dockerfile", "COPY")
        if not step.startswith("--from")
        for name in step.split()[:-1]
    ]
    assert {"agents", "dig_env", "scenes", "pyproject.toml"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists() and let_through(ROOT / "Dockerfile", name), name
    assert not let_through(ROOT / "Dockerfile", ".git")
    # What the package's metadata names must be copied, or the build fails.
    assert {PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)


def test_the_extras_are_the_projects():
    (default,) = (rest for rest in arguments(ROOT / "Dockerfile", "ARG") if "EXTRAS=" in rest)
    named = default.removeprefix("EXTRAS=").split(",")
    comments = re.findall(r"EXTRAS=([\w,]+)", (ROOT / "Dockerfile").read_text())
    for extra in {*named, *(extra for group in comments for extra in group.split(","))}:
        assert extra in PROJECT["optional-dependencies"], extra


@pytest.mark.parametrize("file", FILES, ids=["image", "space"])
def test_the_libraries_that_blender_links_to_are_installed(file):
    (step,) = (rest for rest in arguments(file, "RUN") if "apt-get install" in rest)
    assert set(DEBIAN_PACKAGES.values()) <= set(step.split())


@pytest.mark.parametrize("file", FILES, ids=["image", "space"])
def test_it_does_not_run_as_root(file):
    user = arguments(file, "USER")[-1]
    created = " ".join(arguments(file, "RUN"))
    assert re.search(rf"useradd .*--uid 1000 {user}\b", created)  # Spaces run as 1000


def test_its_command_serves(tmp_path):
    command = json.loads(arguments(ROOT / "Dockerfile", "CMD")[-1])
    assert command[0] == "dig-env" and command[0] in PROJECT["scripts"]
    words = [sys.executable, "-m", "dig_env", *command[1:], "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert "DiG-v0: http://0.0.0.0:" in server.stdout.readline()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def test_the_space_is_one_folder_of_the_same_environment():
    front = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    manifest = yaml.safe_load((SPACE / "openenv.yaml").read_text())
    (port,) = arguments(SPACE / "Dockerfile", "EXPOSE")
    command = json.loads(arguments(SPACE / "Dockerfile", "CMD")[-1])
    assert front["sdk"] == "docker" and "openenv" in front["tags"]
    assert str(front["app_port"]) == str(manifest["port"]) == port == command[-1]
    assert command[:2] == ["uvicorn", manifest["app"]]
    assert (SPACE / Path(*manifest["app"].partition(":")[0].split("."))).with_suffix(".py").exists()


def test_the_space_installs_the_wheel_and_the_openenv_that_are_tested():
    install = " ".join(arguments(SPACE / "Dockerfile", "RUN"))
    pinned = (ROOT / "constraints-openenv.txt").read_text().split()
    assert next(word for word in shlex.split(install) if word.startswith("openenv==")) in pinned
    wheel = PROJECT["name"].replace("-", "_") + "-0.2.0-py3-none-any.whl"
    (pattern,) = (
        step.split()[0] for step in arguments(SPACE / "Dockerfile", "COPY") if "whl" in step
    )
    assert fnmatch(wheel, pattern)
