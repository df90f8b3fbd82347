"""What is handed out: a wheel and an sdist that hold all, one version, and Blender's boundary."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from paths import ROOT

import dig_env

STOREYS = ("dig_env", "dig_env/agents", "dig_env/scenes")
BLENDER = {"bpy", "bmesh", "mathutils"}

EPISODE = """
import gymnasium as gym, dig_env, dig_env.agents, dig_env.scenes
env = gym.make("DiG-v0", width=64, height=48, quality="draft", device="cpu")
observation, info = env.reset(seed=7)
assert observation["image_a"].shape == (48, 64, 3)
answer = dig_env.agents.load_tiny().act([observation])
*_, info = env.step(answer[0])
env.close()
print(dig_env.scenes.__file__, dig_env.__file__, dig_env.agents.__file__, sep="\\n")
"""


def hatchling(source, out, *targets):
    """Build without a network: hatchling is the build backend of pyproject.toml."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(
        command + [part for target in targets for part in ("-t", target)], cwd=source, check=True
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist of this tree."""
    out = tmp_path_factory.mktemp("dist")
    hatchling(ROOT, out, "wheel", "sdist")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built):
    files = {
        path.relative_to(ROOT).as_posix()
        for storey in STOREYS
        for path in (ROOT / storey).rglob("*")  # which follows no link below
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "dig_env/py.typed" in files
    packed = {name for name in contents(built[0]) if ".dist-info/" not in name}
    assert packed == files


def test_a_wheel_made_of_the_sdist_is_that_of_the_tree(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    hatchling(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path, "wheel")
    assert contents(tmp_path / wheel.name) == contents(wheel)


def test_the_installed_wheel_plays_from_another_folder(built, tmp_path):
    venv.create(tmp_path / "env")
    python = tmp_path / "env/bin/python"
    site_packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")}, scheme="venv")
    )
    # The heavy libraries are those of this environment; dig-env is the wheel's.
    (site_packages / "fall_back.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(built[0])], check=True)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command):
        return subprocess.check_output(command, cwd=tmp_path, env=environ, text=True)

    assert run(tmp_path / "env/bin/dig-env", "--version") == f"dig-env {dig_env.__version__}\n"
    for path in run(python, "-c", EPISODE).split():
        assert Path(path).is_relative_to(site_packages)


def test_all_files_name_one_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert cited == newest[1] == dig_env.__version__


def test_blender_is_imported_by_the_workers_scripts_alone():
    importers = set()
    for storey in STOREYS:
        for path in (ROOT / storey).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names = {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names = {(node.module or "").split(".")[0]}
                else:
                    continue
                if names & BLENDER:
                    importers.add(path.relative_to(ROOT).as_posix())
    scripts = ("worker", "studio", "materials", "shapes")
    assert importers == {f"dig_env/scenes/render/blender/{name}.py" for name in scripts}
