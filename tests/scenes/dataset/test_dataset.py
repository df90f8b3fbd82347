"""Datasets on disk: whole or not at all, the same bytes however they came about, and checkable."""

import dataclasses
import fcntl
import io
import itertools
import json
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import datasets
import gymnasium as gym
import numpy as np
import psutil
import pytest
from paths import ROOT
from PIL import Image
from render_workers import is_render_worker

import dig_env  # noqa: F401 - registers DiG-v0
from dig_env.agents.cli.render import render
from dig_env.scenes import (
    PAPER_STAGES,
    SPLITS,
    STAGES,
    Difficulty,
    PairDataset,
    Renderer,
    RenderSettings,
    audit_dataset,
    pair_seed_range,
    plan_pair,
    render_dataset,
)
from dig_env.scenes.dataset.folder import refresh
from dig_env.scenes.dataset.manifest import MANIFEST, Manifest, stage_seeds
from dig_env.scenes.dataset.rows import (
    decode,
    encode,
    pixels_sha256,
    read_origin,
    read_row,
    read_rows,
    to_parquet,
)
from dig_env.scenes.files import _beside, locked

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")
COUNTS = {"single": 8, "mixed": 5}
CLI_TINY = ["--width=64", "--height=48", "--quality=draft", "--device=cpu", "--workers=1"]
CLI_TINY += ["--pairs-per-file=2"]
CLI_SINGLE = ["--stage=single", "--count=12", *CLI_TINY]


def make(folder, counts=COUNTS, split="train", **options):
    return render_dataset(
        folder, counts, split, TINY, **{"pairs_per_file": 2, "workers": 1} | options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """13 train pairs of two stages and 3 validation pairs, rendered in three calls."""
    folder = tmp_path_factory.mktemp("dataset") / "pairs"
    make(folder, {"single": 8})
    make(folder, {"mixed": 5})
    make(folder, {"dual": 3}, "validation")
    return folder


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy to damage."""
    return shutil.copytree(folder, tmp_path / "copy")


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


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden and temporary ones included."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_equal(pair, other):
    for name in ("image_a", "image_b", "ids_a", "ids_b"):
        ours, theirs = getattr(pair, name), getattr(other, name)
        assert ours.dtype == theirs.dtype == np.uint8
        np.testing.assert_array_equal(ours, theirs)
    for name in ("differences", "certificate", "plan"):
        assert getattr(pair, name) == getattr(other, name)


# What is in a folder, and reading it


def test_a_pair_comes_back_as_the_renderer_gave_it(folder):
    dataset = PairDataset(folder)
    with Renderer(TINY) as renderer:
        for stage, split in (("mixed", "train"), ("dual", "validation")):
            seeds = dataset.pair_seeds(stage, split)
            rendered = renderer.imap(plan_pair(seed, STAGES[stage]) for seed in seeds)
            for seed, pair in zip(seeds, rendered, strict=True):
                assert dataset.stage_of(seed) == stage
                assert_equal(dataset.pair(seed), pair)


def test_a_dataset_says_what_it_holds(folder):
    dataset = PairDataset(folder)
    assert dataset.settings == TINY
    assert dataset.splits == ("train", "validation")
    assert dataset.stages == {stage: STAGES[stage] for stage in PAPER_STAGES}
    assert dataset.manifest.missing == 0
    assert dataset.pair_seeds("single", "train") == list(stage_seeds("train", "single")[:8])
    assert dataset.pair_seeds("mixed") == list(stage_seeds("train", "mixed")[:5])
    assert dataset.pair_seeds("dual") == list(stage_seeds("validation", "dual")[:3])
    assert len(dataset) == len(dataset.pair_seeds()) == 16
    assert [pair.plan.seed for pair in dataset] == dataset.pair_seeds()


def test_no_pair_seed_is_in_two_splits_or_two_stages():
    owned = [stage_seeds(split, stage) for split in SPLITS for stage in (*STAGES, "my_own")]
    for seeds, split in zip(owned, np.repeat(SPLITS, len(STAGES) + 1), strict=True):
        within = pair_seed_range(str(split))
        assert seeds[0] in within and seeds[-1] in within
    ordered = sorted(owned, key=lambda seeds: seeds.start)
    assert all(one.stop <= other.start for one, other in itertools.pairwise(ordered))


def test_hugging_face_datasets_loads_the_folder(folder, tmp_path):
    loaded = datasets.load_dataset(str(folder), cache_dir=tmp_path)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 13, "validation": 3}
    for name in ("image_a", "image_b", "ids_a", "ids_b"):
        assert loaded["train"].features[name] == datasets.Image()
    ours = PairDataset(folder)
    for row in loaded["train"]:
        pair = ours.pair(row["pair_seed"])
        for name in ("image_a", "image_b", "ids_a", "ids_b"):
            np.testing.assert_array_equal(np.asarray(row[name]), getattr(pair, name))
        assert [tuple(diff["box"]) for diff in row["differences"]] == [
            diff.box for diff in pair.differences
        ]
        assert row["certificate"] == dataclasses.asdict(pair.certificate)
        assert row["plan"] == json.dumps(pair.plan.to_json())
        assert row["pixels_sha256"] == pixels_sha256(pair)
    one_stage = datasets.load_dataset(str(folder), "mixed", split="train", cache_dir=tmp_path)
    assert set(one_stage["stage"]) == {"mixed"} and len(one_stage) == 5


@pytest.mark.parametrize("wrong", [{"stage": "dual", "split": "train"}, {"stage": "triple"}])
def test_a_stage_or_split_that_is_not_there_is_refused(folder, wrong):
    with pytest.raises(ValueError, match=r"it has train/mixed, train/single, validation/dual"):
        PairDataset(folder).pair_seeds(**wrong)


def test_a_pair_that_is_not_there_is_refused(folder):
    for seed in (8, -1, pair_seed_range("test").start):
        with pytest.raises(ValueError, match=r"not among the 16"):
            PairDataset(folder).pair(seed)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="dig-env render"):
        PairDataset(tmp_path)


def test_reading_a_damaged_pair_is_an_error_that_names_the_audit(copy):
    path = copy / "data" / "train-single-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"pair seed 1 .*damaged.*dig-env audit"):
        PairDataset(copy).pair(1)


@pytest.mark.parametrize("path", ["../{name}", "{folder}/{name}", "data/../../{name}"])
def test_a_manifest_cannot_name_files_outside_its_folder(copy, path):
    manifest = json.loads((copy / MANIFEST).read_text())
    file = copy / manifest["files"][0]["path"]
    file.rename(copy.parent / file.name)
    manifest["files"][0]["path"] = path.format(name=file.name, folder=copy.parent)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="leads out of"):
        PairDataset(copy)


def test_a_datasets_files_may_be_links(copy, tmp_path):
    """As in the cache of the Hugging Face hub, where a snapshot links to blobs."""
    pair = PairDataset(copy).pair(1)
    for file in copy.rglob("*.*"):
        if file.is_file():
            file.symlink_to(file.rename(tmp_path / f"blob-{file.name}"))
    assert np.array_equal(PairDataset(copy).pair(1).image_b, pair.image_b)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "GIF", "too large"])
def test_a_row_holds_pictures_of_its_own_formats_alone(folder, kind):
    dataset = PairDataset(folder)
    row = read_row(folder / dataset.manifest.files[0].path, 0)
    buffer = io.BytesIO()
    if kind == "too large":
        Image.new("L", (4097, 1)).save(buffer, format="PNG")
    else:
        Image.fromarray(dataset.pair(row["pair_seed"]).ids_a).save(buffer, format=kind)
    row["ids_a"]["bytes"] = buffer.getvalue()
    with pytest.raises(Exception, match="cannot identify image|4096 a side"):
        decode(row)


# Rendering: resumed, shared, grown


# A shell that runs the tests in the background has its children ignore SIGINT.
MAIN = """
import resource
import signal
from dig_env.agents.cli.main import main

signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def start(*arguments, command="render"):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


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


# The audit


def audit_finds(folder) -> set[str]:
    return {problem.check for problem in audit_dataset(folder).problems}


def test_the_audit_looks_at_everything_and_finds_nothing_wrong(folder):
    audit = audit_dataset(folder)
    assert not audit.problems
    boxes = 3 * sum(len(pair.differences) for pair in PairDataset(folder))
    rows = dict.fromkeys(("rows", "pixels", "labels", "plan", "seeds"), 16)
    assert audit.checked == {"files": 9, "boxes": boxes, "boxes IoU": boxes} | rows


def test_the_audit_command_prints_a_table_and_names_what_is_broken(copy):
    sound = start(str(copy), command="audit")
    assert "no problems" in sound.communicate()[0] and sound.returncode == 0
    path = copy / "data" / "train-mixed-00002.parquet"
    path.write_bytes(path.read_bytes()[:5000])
    broken = start(str(copy), command="audit")
    assert "data/train-mixed-00002.parquet: has 5000 bytes" in broken.communicate()[0]
    assert broken.returncode == 1


def tamper(folder, change, path="data/train-single-00001.parquet"):
    """Alter the rows of a file so that its checksum and the manifest know nothing of it."""
    origin, _ = read_origin(folder / path)
    rows = read_rows(folder / path)
    change(rows)
    (folder / path).write_bytes(to_parquet(rows, origin))
    refresh(folder, Manifest.load(folder), rewritten=path)


def swap_images(rows):
    rows[0]["image_a"], rows[0]["image_b"] = rows[0]["image_b"], rows[0]["image_a"]


def hide_the_change(rows):
    rows[0]["image_b"] = rows[0]["image_a"]


def nudge_box(rows):
    rows[0]["differences"][0]["box"][0] -= 0.25


def move_box(rows):
    box = rows[0]["differences"][0]["box"]
    box[:] = [box[0] + 5, box[1] + 5, box[2] + 5, box[3] + 5]


def drop_label(rows):
    rows[0]["differences"].pop()


def double_seed(rows):
    rows[1] = rows[0]


def flatter_certificate(rows):
    rows[0]["certificate"]["outside_mean"] = 0.0


def edit_plan(rows, edit):
    plan = json.loads(rows[0]["plan"])
    edit(plan)
    rows[0]["plan"] = json.dumps(plan)


def turn_changed_object(rows):
    def edit(plan):
        change = plan["changes"][0]
        for version in filter(None, (change["before"], change["after"])):
            version["rotation_deg"] += 1.0

    edit_plan(rows, edit)


def paint_another_object(rows):
    edit_plan(rows, lambda plan: plan["objects"][0].update(color="a colour of its own"))


def break_plan(rows):
    rows[0]["plan"] = rows[0]["plan"][:-1]


def rename_stage(rows):
    rows[0]["stage"] = "dual"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (swap_images, {"pixels"}),
        (hide_the_change, {"pixels", "labels"}),
        (nudge_box, {"boxes", "labels"}),
        (move_box, {"boxes", "boxes IoU", "labels"}),
        (drop_label, {"labels", "plan"}),
        (double_seed, {"seeds"}),
        (flatter_certificate, {"labels"}),
        (turn_changed_object, {"plan"}),
        (paint_another_object, {"plan"}),
        (break_plan, {"rows"}),
        (rename_stage, {"seeds"}),
    ],
)
def test_the_audit_finds_a_row_that_was_tampered_with(copy, change, found):
    tamper(copy, change)
    assert found <= audit_finds(copy)
    first, second = (change is not double_seed, change is double_seed)
    rows = {problem.row for problem in audit_dataset(copy).problems}
    assert rows == {0} if first else rows == {int(second)}


def test_the_audit_finds_a_second_attribute_that_changes(copy):
    """A change of colour that also turns the object: an unlabelled second difference."""

    def edit(plan):
        change = plan["changes"][0]
        change["after"]["rotation_deg"] += 1.0

    path = next(
        f"data/train-mixed-0000{pair // 2}.parquet"
        for pair, row in enumerate(PairDataset(copy).pair_seeds("mixed"))
        if PairDataset(copy).pair(row).plan.changes[0].change in STAGES["single"].changes[:4]
        and pair % 2 == 0
    )
    tamper(copy, lambda rows: edit_plan(rows, edit), path)
    messages = [problem.message for problem in audit_dataset(copy).problems]
    assert any(re.search("and changes [a-z, ]*rotate", message) for message in messages)


def test_the_audit_finds_a_stage_whose_k_is_out_of_range(copy):
    single = PairDataset(copy).pair(0)

    def replace(rows):
        rows[0] = encode(single, "dual") | {"pair_seed": rows[0]["pair_seed"]}

    tamper(copy, replace, "data/validation-dual-00000.parquet")
    messages = [problem.message for problem in audit_dataset(copy).problems]
    assert "K = 1, and the stage asks for 2 to 2" in messages


def test_the_audit_finds_files_that_are_missing_or_unlisted(copy):
    data = copy / "data"
    (data / "train-single-00000.parquet").rename(data / "train-single-00009.parquet")
    found = {(problem.check, problem.path) for problem in audit_dataset(copy).problems}
    assert found == {
        ("files", "data/train-single-00000.parquet"),
        ("files", "data/train-single-00009.parquet"),
    }


def test_any_flipped_byte_and_any_cut_is_reported_and_crashes_nothing(copy):
    path = copy / "data" / "train-mixed-00000.parquet"
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    # The last 5,000 bytes hold the footer, of which the reader believes most.
    places = [*rng.integers(0, len(good), 15), *rng.integers(len(good) - 5000, len(good), 30)]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        assert audit_finds(copy) >= {"files"}
    for length in (0, 3, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        assert audit_finds(copy) >= {"files"}
    path.write_bytes(good)
    assert not audit_finds(copy)


def test_a_damaged_file_is_not_built_upon(copy):
    path = copy / "data" / "train-mixed-00002.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="delete it"):
        make(copy, {"mixed": 6})
    path.unlink()
    make(copy, {"mixed": 6})
    assert not audit_finds(copy)
