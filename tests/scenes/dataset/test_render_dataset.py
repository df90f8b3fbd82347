"""Datasets come about whole or not at all, and to the same bytes in whatever way."""

import fcntl
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import psutil
import pytest
from paths import ROOT
from render_workers import is_render_worker
from tiny_datasets import TINY, content, make, start

import dig_env  # noqa: F401 - registers DiG-v0
from dig_env.agents.cli.render import render
from dig_env.scenes import (
    Difficulty,
    PairDataset,
    RenderSettings,
    audit_dataset,
    plan_pair,
    render_dataset,
)
from dig_env.scenes.dataset.manifest import Manifest, stage_seeds
from dig_env.scenes.files import _beside, locked

CLI_TINY = ["--width=64", "--height=48", "--quality=draft", "--device=cpu", "--workers=1"]
CLI_TINY += ["--pairs-per-file=2"]
CLI_SINGLE = ["--stage=single", "--count=12", *CLI_TINY]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory) -> Path:
    """What ``CLI_SINGLE`` should lead to, in one uninterrupted call."""
    folder = tmp_path_factory.mktemp("dataset") / "twelve"
    make(folder, {"single": 12})
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Its first three."""
    folder = tmp_path_factory.mktemp("dataset") / "three"
    make(folder, {"single": 3})
    return folder


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, "it ended before it wrote the file"
        time.sleep(0.005)


def test_a_killed_run_resumes_as_if_never_stopped(twelve, tmp_path):
    out = tmp_path / "out"
    rng = np.random.default_rng()
    for index in (0, 3):
        process = start(f"--out={out}", *CLI_SINGLE)
        wait_for(out / "data" / f"train-single-{index:05d}.parquet", process)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        # At worst, the last file had no time to get into the manifest.
        problems = audit_dataset(out).problems
        assert len(problems) <= 1 and all("not in the manifest" in p.message for p in problems)
    assert start(f"--out={out}", *CLI_SINGLE).wait() == 0
    assert content(out) == content(twelve)


KILL_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from dig_env.scenes import RenderSettings, render_dataset
rename, renames = os.replace, 0
def replace(source, target):
    global renames
    renames += 1
    if renames == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
os.replace = replace
settings = RenderSettings(64, 48, "draft", "cpu")
render_dataset(sys.argv[1], {"single": 12}, settings=settings, pairs_per_file=2, workers=1)
"""


# First the manifest and the card are renamed, then a data file, the manifest, the card, and so on.
# The first data file here replaces a shorter one.
@pytest.mark.parametrize("rename", [1, 3, 4])
def test_a_run_killed_between_any_two_files_resumes(twelve, three, tmp_path, rename):
    if rename > 2:
        shutil.copytree(three, tmp_path, dirs_exist_ok=True)
    killed = subprocess.run([sys.executable, "-c", KILL_AT_RENAME, str(tmp_path), str(rename)])
    assert killed.returncode == -signal.SIGKILL
    make(tmp_path, {"single": 12})
    assert content(tmp_path) == content(twelve)


def ended_children_cpu_s():
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


@pytest.mark.parametrize("moment", ["manifest.json", "data/train-single-00001.parquet"])
def test_ctrl_c_stops_within_two_seconds_and_says_how_to_go_on(tmp_path, moment):
    out = tmp_path / "out"
    before = ended_children_cpu_s()
    process = start(f"--out={out}", *CLI_SINGLE, "--count=10000")
    wait_for(out / moment, process)
    running = psutil.Process(process.pid)
    spent = sum(sum(one.cpu_times()[:2]) for one in (running, *running.children(recursive=True)))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    # Of its own and its Blender's CPU time, since other programs may be busy.
    assert ended_children_cpu_s() - before - spent < 2
    assert process.returncode == 130
    assert f"resume with: dig-env render --out={out}" in said
    there = sum(file.rows for file in Manifest.load(out).files)
    assert there < 10_000
    make(out, {"single": there + 1})
    assert not audit_dataset(out).problems


def test_a_slurm_arrays_jobs_together_are_one_run_in_one_folder_at_once(twelve, tmp_path):
    """As Slurm runs them: each is told its number, and passes it on as ``--shard``."""
    script = ROOT / "examples" / "pairs" / "slurm_render.sh"
    slurm = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
    slurm |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    jobs = [
        subprocess.Popen(
            ["bash", str(script), f"--out={tmp_path}", *CLI_SINGLE],
            env=os.environ | slurm | {"SLURM_ARRAY_TASK_ID": task},
        )
        for task in "12"
    ]
    assert [job.wait() for job in jobs] == [0, 0]
    assert content(tmp_path) == content(twelve)


def test_shards_of_several_machines_are_completed_where_they_are_copied_together(twelve, tmp_path):
    for index in (1, 3):
        manifest = make(tmp_path / str(index), {"single": 12}, shard=(index, 3))
        assert manifest.missing == 8
    shutil.copytree(tmp_path / "1", tmp_path / "3", dirs_exist_ok=True)
    assert make(tmp_path / "3", {"single": 12}).missing == 0
    assert content(tmp_path / "3") == content(twelve)


def test_ray_gives_the_same_bytes_though_its_worker_is_killed(twelve, tmp_path):
    killed = []

    def strike(there, total):
        if there == 1:  # two of three tasks are not done
            here = psutil.Process()
            blenders = filter(is_render_worker, here.children(recursive=True))
            (worker,) = {blender.parent() for blender in blenders} - {here}
            worker.kill()
            killed.append(worker.pid)

    make(tmp_path, {"single": 12}, engine="ray", workers=1, on_pair=strike)
    assert killed and content(tmp_path) == content(twelve)


def test_a_larger_count_adds_pairs_and_keeps_the_whole_files(twelve, tmp_path):
    make(tmp_path, {"single": 5})
    first = tmp_path / "data" / "train-single-00000.parquet"
    before = first.stat()
    seen = []
    make(tmp_path, {"single": 12}, on_pair=lambda there, total: seen.append((there, total)))
    assert seen == [(there, 12) for there in range(5, 13)]
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert content(tmp_path) == content(twelve)
    assert make(tmp_path, {"single": 3}).asked == {"train": {"single": 12}}
    assert content(tmp_path) == content(twelve)


def test_a_missing_file_is_rendered_anew(folder, copy):
    (copy / "data" / "train-mixed-00001.parquet").unlink()
    make(copy)
    assert content(copy) == content(folder)


def test_temporary_files_of_ended_runs_go_and_those_of_living_ones_stay(copy):
    path = copy / "data" / "train-single-00000.parquet"
    code = (
        f"import pathlib, dig_env.scenes.files as f; print(f._beside(pathlib.Path({str(path)!r})))"
    )
    ended = Path(subprocess.check_output([sys.executable, "-c", code], text=True).strip())
    living = _beside(path)
    for temporary in (ended, living):
        temporary.write_bytes(b"half")
    make(copy, {"single": 8})
    assert not ended.exists() and living.exists()


def test_a_later_run_waits_for_the_lock(copy):
    with locked(copy):
        later = threading.Thread(target=make, args=(copy, {"single": 8}))
        later.start()
        later.join(0.3)
        assert later.is_alive()
    later.join()


def test_a_file_system_without_locks_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="local disk"):
        make(tmp_path)


def test_a_difficulty_of_ones_own(tmp_path):
    own = {"two_colors": {"differences": (2, 2), "objects": (3, 4), "changes": ["color"]}}
    make(tmp_path, {"two_colors": 3}, difficulties=own)
    dataset = PairDataset(tmp_path)
    assert dataset.stages == {"two_colors": Difficulty(**own["two_colors"])}
    for pair in dataset:
        assert [diff.change for diff in pair.differences] == ["color", "color"]
    assert not audit_dataset(tmp_path).problems
    with pytest.raises(ValueError, match="stage two_colors"):
        make(tmp_path, {"two_colors": 3}, difficulties={"two_colors": Difficulty()})


def test_seeds_whose_first_layouts_are_not_found_are_rendered_too(tmp_path):
    rare = Difficulty(differences=(4, 4), objects=(10, 11), changes=("move",))
    seeds = stage_seeds("train", "rare")[:4]
    assert {plan_pair(seed, rare).attempt for seed in seeds} > {0}
    make(tmp_path, {"rare": np.int64(4)}, difficulties={"rare": rare})
    assert PairDataset(tmp_path).pair_seeds("rare") == list(seeds)
    assert all(len(pair.differences) == 4 for pair in PairDataset(tmp_path))
    assert not audit_dataset(tmp_path).problems


def test_a_dataset_at_a_relative_path_stays_open_when_the_process_goes_elsewhere(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(folder.parent)
    dataset = PairDataset(folder.name)
    seed = np.int64(dataset.pair_seeds("single")[0])
    env = gym.make("DiG-v0", dataset=folder.name).unwrapped
    monkeypatch.chdir(tmp_path)
    assert dataset.pair(seed).plan.seed == seed
    env.reset(seed=1)
    copied = pickle.loads(pickle.dumps(env))
    assert copied.reset(seed=1)[1] == env.reset(seed=1)[1]
    assert len(pickle.loads(pickle.dumps(dataset)).pair(seed).differences) == 1
    env.close()
    copied.close()


def test_a_folder_is_filled_where_it_was_when_the_call_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make("out", {"single": 3}, on_pair=lambda there, total: os.chdir(elsewhere))
    assert len(PairDataset(tmp_path / "out")) == 3 and not list(elsewhere.iterdir())


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": RenderSettings(96, 48, "draft", "cpu")}, "give width=64"),
        ({"settings": RenderSettings(64, 48, "high", "cpu")}, "give quality='draft'"),
        ({"pairs_per_file": 3}, "give pairs_per_file=2"),
    ],
)
def test_pairs_of_another_kind_are_refused_in_the_same_folder(folder, options, message):
    before = content(folder)
    arguments = {"settings": TINY, "pairs_per_file": 2} | options
    with pytest.raises(ValueError, match=message):
        render_dataset(folder, {"single": 20}, **arguments)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("what", "other"), [("blender", "4.2.0 LTS"), ("processor", "aarch64"), ("device", "OPTIX")]
)
def test_pairs_of_another_renderer_are_refused_in_the_same_folder(copy, what, other):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["made_with"][what] = other
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"made with {what} {other}"):
        make(copy, {"single": 9})


def test_a_file_of_other_settings_that_was_copied_in_is_refused(copy, tmp_path):
    settings = RenderSettings(96, 48, "draft", "cpu")
    render_dataset(tmp_path / "other", {"dual": 1}, settings=settings, pairs_per_file=2)
    shutil.copy(tmp_path / "other" / "data" / "train-dual-00000.parquet", copy / "data")
    with pytest.raises(ValueError, match="does not belong"):
        make(copy)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(ValueError, match="empty folder"):
        make(tmp_path)
    assert content(tmp_path) == {"README.md": b"my project"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"counts": {"triple": 1}}, "single, dual, mixed"),
        ({"counts": {"single": 0}}, r"counts\['single'\]=0"),
        ({"counts": {"single": True}}, r"counts\['single'\]=True"),
        ({"counts": {"single": 2.0}}, r"counts\['single'\]=2.0"),
        ({"shard": (1.0, 2)}, r"shard=\(1.0, 2\)"),
        ({"split": "dev"}, "train, validation, test"),
        ({"engine": "spark"}, "engine='spark': give one of local, ray"),
        ({"shard": (17, 16)}, r"shard=\(17, 16\)"),
        ({"pairs_per_file": 0}, "pairs_per_file=0"),
        ({"pairs_per_file": True}, "pairs_per_file=True"),
        ({"difficulties": {"My Own": {}}}, "lower-case"),
        ({"difficulties": {"single": {"differences": (2, 2)}}}, "is taken"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": Path("x")}, "--preset paper"),
        ({"out": Path("x"), "stage": "single", "preset": "paper"}, "--preset paper"),
        ({"out": Path("x"), "preset": "paper", "shard": "3"}, "3/16"),
    ],
)
def test_the_command_says_what_it_lacks(options, message):
    with pytest.raises(ValueError, match=message):
        render(**options)
