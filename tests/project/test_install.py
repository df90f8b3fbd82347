"""What an install brings: a light base that plays, extras by name, nothing in the way of others."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT
from test_package import hatchling

from dig_env.scenes.render.interpreter import VARIABLE

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENTS = ("trl_vllm", "verl_vllm", "sb3")


def requirements_of(requirement, python=None):
    """What a requirement brings: the project's as written here, another's as installed."""
    environment = default_environment() | ({"python_version": python} if python else {})
    if canonicalize_name(requirement.name) == "dig-env":
        extras = PROJECT["optional-dependencies"]
        texts = PROJECT["dependencies"] + [t for name in requirement.extras for t in extras[name]]
    else:
        texts = importlib.metadata.requires(requirement.name) or []
    for needed in map(Requirement, texts):
        markers = [environment | {"extra": extra} for extra in requirement.extras or {""}]
        if needed.marker is None or any(map(needed.marker.evaluate, markers)):
            yield needed


def unmet(pins, extras, python="3.12"):
    """The pinned packages that an install beside them would replace, and those that it meets.

    A package that is not pinned counts with what its installed version requires.
    """
    waiting, seen = [Requirement(f"dig-env[{extras}]")], set()
    wrong, met = {}, set()
    while waiting:
        for needed in requirements_of(waiting.pop(), python):
            name = canonicalize_name(needed.name)
            if name not in pins:
                if str(needed) not in seen:
                    waiting.append(needed)
                seen.add(str(needed))
            elif needed.specifier.contains(pins[name], prereleases=True):
                met.add(name)
            else:
                wrong[name] = str(needed)
    return wrong, met


def pinned(environment):
    lines = (ROOT / "tests" / "environments" / f"{environment}.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_beside_a_trainers_packages_an_install_replaces_none(environment):
    wrong, met = unmet(pinned(environment), "all")
    assert not wrong
    assert {"numpy", "torch", "filelock"} <= met


def test_only_blender_as_a_module_asks_for_another_numpy():
    wrong, _ = unmet(pinned("sb3"), "blender", python="3.11")
    assert list(wrong) == ["numpy"] and "<2" in wrong["numpy"]
    assert not unmet(pinned("sb3"), "models,photos,play,ray,sb3,serve,train", python="3.11")[0]


def link_packages(python: Path, *names: str) -> Path:
    """Give a bare Python packages of this one, with all that they require; its site-packages."""
    (site_packages,) = python.parents[1].glob("lib/python*/site-packages")
    waiting, seen = [Requirement(name) for name in names], set(names)
    while waiting:
        package = waiting.pop()
        for needed in requirements_of(package):
            if needed.name not in seen:
                seen.add(needed.name)
                waiting.append(needed)
    for name in seen - {"dig-env"}:
        files = importlib.metadata.distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(SITE_PACKAGES / top)
    return site_packages


def pip(python: Path, *arguments) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    subprocess.run([*command, "--no-deps", *arguments], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    hatchling(ROOT, out, "wheel")
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory, wheel):
    """The folder of the programs of a Python that has the wheel and its base dependencies alone."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, symlinks=True)
    link_packages(folder / "bin" / "python", "dig-env")
    pip(folder / "bin" / "python", wheel)
    return folder / "bin"


def run(*command, cwd, **environment):
    """What a command printed; its errors are part of it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


PROJECT_SCRIPT = """
import agents, envs, scenes  # the user's own
import gymnasium as gym
import dig_env, dig_env.agents, dig_env.envs, dig_env.scenes

assert [agents.MINE, envs.MINE, scenes.MINE] == [1, 1, 1]
env = gym.make("DiG-v0", width=64, height=48, quality="draft", device="cpu")
observation, info = env.reset(seed=7)
answer = dig_env.agents.PixelDiffPolicy().act([observation])[0]
_, reward, terminated, _, _ = env.step(answer)
env.close()
print(observation["image_a"].shape, terminated)
"""


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs the bpy of this Python")
def test_a_base_install_plays_in_a_project_with_folders_of_our_names(base, tmp_path):
    for name in ("agents", "envs", "scenes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = 1\n")
    (tmp_path / "train.py").write_text(PROJECT_SCRIPT)
    blender = {VARIABLE: sys.executable}
    assert run(base / "python", "train.py", cwd=tmp_path, **blender) == "(48, 64, 3) True\n"
    rendered = run(
        *(base / "dig-env", "render", "--stage", "single", "--count", "1", "--out", "pairs"),
        *("--width", "64", "--height", "48", "--quality", "draft"),
        cwd=tmp_path,
        **blender,
    )
    assert "1 pairs in 1 files" in rendered, rendered
    audited = run(*(base / "python", "-m", "dig_env", "audit", "pairs"), cwd=tmp_path, **blender)
    assert "pairs: no problems" in audited, audited


def test_without_blender_a_base_install_names_the_command_that_brings_it(base, tmp_path):
    script = "import gymnasium as gym, dig_env; gym.make('DiG-v0').reset(seed=1)"
    printed = run(base / "python", "-c", script, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert printed.strip().endswith("run: dig-env install-blender"), printed


FEATURES = """
import importlib, pkgutil, sys
from pathlib import Path
import numpy as np
import dig_env, dig_env.agents
from dig_env.agents.cli import main as cli
from dig_env.drawing import Display
from dig_env.scenes.extras import MissingExtraError
from dig_env.scenes.families.models import ModelError
from dig_env.scenes.families.mesh_files import read_model
from dig_env.scenes.photos.annotations import decoded
import gymnasium as gym

for module in pkgutil.walk_packages(dig_env.__path__, "dig_env."):
    # Blender's own, an exported folder's, and adapters that their frameworks import.
    theirs = ("nemo", "openenv", "skyrl", "verifiers", "verl_live", "verl_rollout")
    if not any(part in module.name for part in ("blender.", "templates", "__main__")) and (
        module.name.removeprefix("dig_env.agents.integrations.") not in theirs
    ):
        try:
            importlib.import_module(module.name)
        except MissingExtraError:
            pass

def tell(name, feature):
    print("@", name)
    try:
        feature()
    except (MissingExtraError, ModelError) as error:
        print(error)

def command(*arguments):
    sys.argv = ["dig-env", *arguments]
    print("@", arguments[0], flush=True)
    try:
        cli.main()
    except SystemExit:
        pass

open("cube.stl", "wb").write(bytes(84))
tell("MLLMPolicy", lambda: dig_env.agents.MLLMPolicy)
tell("train_grpo", lambda: dig_env.agents.train_grpo)
tell("ApiPolicy", lambda: dig_env.agents.ApiPolicy)
tell("sb3", lambda: importlib.import_module("dig_env.agents.integrations.sb3"))
tell("DiG-Remote-v0", lambda: gym.make("DiG-Remote-v0", url="http://localhost:1"))
tell("human", lambda: Display("human").show(lambda: np.zeros((4, 4, 3), np.uint8)))
tell("photos", lambda: decoded([[0, 0, 3, 0, 3, 3]], (4, 4)))
tell("models", lambda: read_model(Path("cube.stl")))
sys.stderr = sys.stdout
command("train")
command("eval", "--policy", "random", "--episodes", "1")
command("play")
command("serve")
command("render", "--stage", "single", "--count", "1", "--out", "pairs", "--engine", "ray")
"""


def test_a_feature_without_its_extra_says_which_to_install(base, tmp_path):
    printed = run(base / "python", "-c", FEATURES, cwd=tmp_path)
    told = {block.split()[0]: block.strip().splitlines()[-1] for block in printed.split("@")[1:]}
    expected = {
        **{"MLLMPolicy": "train", "train_grpo": "train", "ApiPolicy": "eval", "sb3": "sb3"},
        **{"DiG-Remote-v0": "serve", "human": "play", "photos": "photos", "models": "models"},
        **{"train": "train", "eval": "eval", "play": "play", "serve": "serve", "render": "ray"},
    }
    for name, extra in expected.items():
        assert told[name].endswith(f"not installed; run: pip install 'dig-env[{extra}]'"), printed


def test_importing_the_environment_loads_nothing_that_an_extra_brings_or_that_is_slow(tmp_path):
    names = {
        *("torch", "transformers", "trl", "matplotlib", "wandb", "pandas", "jinja2", "pygame"),
        *("httpx", "starlette", "stable_baselines3", "pycocotools", "trimesh", "ray", "bpy"),
        *("scipy.ndimage", "scipy.optimize", "scipy.spatial"),
    }
    script = f"import dig_env, dig_env.agents, sys; print(sorted({names} & set(sys.modules)))"
    assert run(sys.executable, "-c", script, cwd=ROOT, PYTHONPATH=str(ROOT)) == "[]\n"


def other_project(folder: Path) -> Path:
    """A wheel with a top-level folder ``agents``, as openai-agents has it."""
    path = folder / "openai_agents-1.0-py3-none-any.whl"
    about = "openai_agents-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: openai-agents\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("agents/__init__.py", "class Runner: ...\n")
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_another_project_named_agents_is_not_touched_whichever_comes_first(base, wheel, tmp_path):
    python, other = base / "python", other_project(tmp_path)
    script = "import agents, dig_env.agents as a; print(agents.Runner, a.RandomPolicy)"
    both = "<class 'agents.Runner'> <class 'dig_env.agents.policies.policy.RandomPolicy'>\n"
    pip(python, other)
    assert run(python, "-c", script, cwd=tmp_path) == both
    pip(python, "--force-reinstall", wheel)
    assert run(python, "-c", script, cwd=tmp_path) == both


def test_an_editable_install_is_seen_by_python_and_by_mypy(tmp_path):
    python = tmp_path / "env" / "bin" / "python"
    venv.create(tmp_path / "env", symlinks=True)
    (site_packages,) = python.parents[1].glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(str(SITE_PACKAGES))  # hatchling and its own
    pip(python, "--no-build-isolation", "--editable", ROOT)
    (tmp_path / "script.py").write_text(
        "import dig_env.agents, dig_env.scenes.version as version\n"
        "print(dig_env.agents.__file__, version.__file__, sep='\\n')\n"
    )
    for path in run(python, "script.py", cwd=tmp_path).split():
        assert Path(path).is_relative_to(ROOT)
    checked = run(
        *(sys.executable, "-m", "mypy", "--follow-imports", "skip", "--no-incremental"),
        *("--python-executable", python, "script.py"),
        cwd=tmp_path,
    )
    assert checked.startswith("Success"), checked
