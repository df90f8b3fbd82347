"""Stages of one's own: one name for everything, and datasets that carry theirs."""

import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from serving import serving

import dig_env
from dig_env.agents import GRPORun, PixelDiffPolicy, evaluate
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.agents.training.grpo import train_grpo
from dig_env.agents.web.inspector import open_collection
from dig_env.envs.pairs import PairCache, SharedPairs, StoredPairs
from dig_env.scenes import (
    STAGES,
    Difficulty,
    DifficultyError,
    PairDataset,
    RenderSettings,
    audit_dataset,
    register_stage,
    render_dataset,
    resolve_stage,
)
from dig_env.scenes.dataset.card import dataset_card
from dig_env.scenes.dataset.manifest import stage_seeds
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Sessions

TINY = RenderSettings(64, 48, "draft", "cpu")
TINY_ENV = {"width": 64, "height": 48, "quality": "draft", "device": "cpu"}
FOGGY = {"differences": (2, 2), "objects": (4, 5), "changes": ["color"], "noise_levels": 3}


@pytest.fixture
def foggy():
    """A stage that is registered for one test."""
    yield register_stage("foggy", FOGGY)
    STAGES.pop("foggy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs of two stages, of which this process knows but one by name."""
    path = tmp_path_factory.mktemp("stages") / "pairs"
    for split in ("train", "test"):
        own = {"foggy": FOGGY}
        render_dataset(path, {"single": 2, "foggy": 3}, split, TINY, difficulties=own, workers=1)
    return path


def run_python(program, *arguments, cwd=None):
    """What a fresh process prints."""
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


# A registered stage


def test_a_registered_stage_is_played_by_name_and_found_by_its_fields(foggy):
    assert resolve_stage("foggy") == resolve_stage(FOGGY) == ("foggy", Difficulty(**FOGGY))
    curriculum = dig_env.Curriculum(("single", "foggy"), promote_at=0.0, window=1)
    env = dig_env.CurriculumWrapper(gym.make("DiG-v0", **TINY_ENV), curriculum)
    played = []
    for seed in range(2):
        played.append(env.reset(seed=seed)[1]["stage"])
        env.step("[]")
    assert played == ["single", "foggy"] and curriculum.episodes == 2
    assert env.unwrapped.pair.plan.difficulty == foggy
    env.close()
    report = evaluate(PixelDiffPolicy(), stage="foggy", episodes=1, settings=TINY)
    assert report.stage == "foggy" and len(report.episodes[0].pair.differences) == 2


def test_a_registered_stage_is_rendered_and_a_folder_that_has_it_is_grown_without(tmp_path, foggy):
    render_dataset(tmp_path, {"foggy": 1}, settings=TINY, workers=1)
    STAGES.pop("foggy")
    try:
        assert render_dataset(tmp_path, {"foggy": 2}, settings=TINY, workers=1).missing == 0
        dataset = PairDataset(tmp_path)
        assert dataset.stages == {"foggy": foggy}
        assert dataset.pair_seeds("foggy") == list(stage_seeds("train", "foggy")[:2])
        assert not audit_dataset(tmp_path).problems
        with pytest.raises(ValueError, match="register_stage"):
            render_dataset(tmp_path / "new", {"foggy": 2}, settings=TINY)
    finally:
        STAGES["foggy"] = foggy


def test_registering_changes_neither_the_seeds_nor_the_card_of_a_dataset(folder, tmp_path):
    manifest = PairDataset(folder).manifest
    before = stage_seeds("train", "foggy"), stage_seeds("train", "mixed"), dataset_card(manifest)
    register_stage("foggy", FOGGY)
    try:
        after = stage_seeds("train", "foggy"), stage_seeds("train", "mixed"), dataset_card(manifest)
    finally:
        STAGES.pop("foggy")
    assert before == after


@pytest.mark.parametrize(
    ("name", "difficulty", "message"),
    [
        ("single", {"differences": (2, 2)}, "another stage 'single'"),
        ("Foggy", FOGGY, "lower-case letters"),
        (7, FOGGY, "lower-case letters"),
        ("default", FOGGY, "'default' is taken"),
        ("custom", FOGGY, "name yours"),
        ("new", {"differences": (9, 9)}, "an object of its own"),
        ("new", {"family": "nowhere"}, "unknown family 'nowhere'"),
        ("new", None, "stage=None"),
    ],
)
def test_what_is_no_stage_is_not_registered(name, difficulty, message):
    before = dict(STAGES)
    with pytest.raises(DifficultyError, match=message):
        register_stage(name, difficulty)
    assert before == STAGES


def test_registering_again_changes_nothing(foggy):
    assert register_stage("foggy", FOGGY) == register_stage("foggy", foggy) == STAGES["foggy"]
    with pytest.raises(DifficultyError, match="another stage 'foggy'"):
        register_stage("foggy", {})


# The stages of a dataset


@pytest.mark.parametrize("elsewhere", [{}, {"foggy": STAGES["mixed"]}])
def test_a_datasets_stages_are_played_as_it_means_them(folder, elsewhere, monkeypatch):
    for name, difficulty in elsewhere.items():
        monkeypatch.setitem(STAGES, name, difficulty)
    shared = SharedPairs(StoredPairs(folder, "train"), PairCache())
    for source in (folder, shared):
        for stage in ("foggy", FOGGY):
            env = gym.make("DiG-v0", dataset=source, stage=stage)
            observation, info = env.reset(seed=1)
            assert info["stage"] == "foggy" and "does not count" in observation["prompt"]
            assert env.unwrapped.pair.plan.difficulty == Difficulty(**FOGGY)
            _, info = env.reset(options={"stage": "single"})
            assert info["stage"] == "single"
            env.close()


def test_curricula_and_vectors_walk_a_datasets_stages(folder):
    for mode in ("vector_entry_point", "async"):
        vector = gym.make_vec("DiG-v0", 2, vectorization_mode=mode, dataset=str(folder))
        curriculum = dig_env.Curriculum(("single", "foggy"), promote_at=0.0, window=2)
        vector = dig_env.VectorCurriculumWrapper(vector, curriculum)
        _, infos = vector.reset(seed=0)
        assert list(infos["stage"]) == ["single", "single"]
        vector.step(["[]"] * 2)
        infos = vector.step(["[]"] * 2)[-1]
        assert list(infos["stage"]) == ["foggy", "foggy"]
        vector.close()


def test_evaluation_and_the_inspector_take_a_datasets_stage(folder):
    assert evaluate_stored(PixelDiffPolicy(), folder, stage="foggy").stage == "foggy"
    collection = open_collection(folder)
    stages = {collection.pair(entry).plan.difficulty for entry in collection.entries}
    collection.close()
    assert stages == {STAGES["single"], Difficulty(**FOGGY)}


def test_training_walks_a_datasets_stages(folder, tmp_path):
    with pytest.raises(ValueError, match="unknown stage 'foggy'"):
        GRPORun(stages=("single", "foggy"))
    run = GRPORun(
        out=str(tmp_path),
        dataset=str(folder),
        stages=("single", "foggy"),
        promote_at=0.0,
        window=1,
        pairs_per_step=2,
        rollouts=2,
        steps=2,
        eval_pairs=1,
        save_every=0,
    )
    result = train_grpo(run)
    assert result.promotions == [(1, "single", "foggy")]
    assert list(result.after) == ["single", "foggy"]


def test_a_client_plays_a_stage_that_only_the_servers_dataset_knows(folder):
    sessions = Sessions(datasets={"pairs": folder})
    with serving(server_app(sessions, "token")) as url:
        options = {"url": url, "token": "token", "dataset": "pairs"}
        env = gym.make("DiG-Remote-v0", stage="foggy", **options).unwrapped
        env.stage = env.stage
        assert env.reset(seed=np.int64(0))[1]["stage"] == "foggy"
        env.stage = FOGGY
        assert env.reset()[1]["stage"] == "foggy"
        env.close()
        with pytest.raises(DifficultyError, match="unknown stage 'cloudy'"):
            gym.make("DiG-Remote-v0", stage="cloudy", **options)
    sessions.close()


CLI = "from dig_env.agents.cli.main import main; main()"


def test_the_command_line_takes_a_stage_of_a_module_and_of_a_dataset(folder, tmp_path):
    (tmp_path / "weather.py").write_text(
        f"from dig_env.scenes import register_stage\nregister_stage('misty', {FOGGY!r})\n"
    )
    small = ["--width=64", "--height=48", "--quality=draft"]
    made = ["render", "--stage=weather:misty", "--count=1", "--out=misty", "--device=cpu", *small]
    run_python(CLI, *made, cwd=tmp_path)
    assert PairDataset(tmp_path / "misty").stages == {"misty": Difficulty(**FOGGY)}
    evaluated = ["eval", "--policy=pixeldiff", "--json", f"--out={tmp_path}/result.json"]
    for rest in (
        ["--stage=weather:misty", "--episodes=1", *small],
        ["--stage=foggy", f"--dataset={folder}"],
    ):
        told = json.loads(run_python(CLI, *evaluated, *rest, cwd=tmp_path).splitlines()[-1])
        assert told["result"]["stage"] if "result" in told else told["stage"]


# What an environment plays


def test_the_stage_of_an_environment_can_be_set_to_what_it_is(folder):
    env = gym.make("DiG-v0", stage={"differences": (2, 3)}, **TINY_ENV).unwrapped
    difficulty = env.pairs.difficulty
    env.stage = env.stage
    assert (env.stage, env.pairs.difficulty) == ("custom", difficulty)
    _, info = env.reset(seed=3)
    # A replay names its stage as the info did.
    again = env.reset(options={"stage": info["stage"], "pair_seed": np.int64(info["pair_seed"])})
    assert again[1] == info and type(again[1]["pair_seed"]) is int
    env.stage = "dual"
    with pytest.raises(DifficultyError, match="unknown stage 'custom'"):
        env.stage = "custom"
    env.close()


def test_a_vector_that_begins_at_a_custom_difficulty_continues_under_a_curriculum():
    stage = {"differences": (2, 3)}
    vector = gym.make_vec("DiG-v0", 2, stage=stage, autoreset_mode="Disabled", **TINY_ENV)
    vector = dig_env.VectorCurriculumWrapper(vector, dig_env.Curriculum(("single",)))
    vector.env.reset(seed=0)
    mask = np.array([True, False])
    _, infos = vector.reset(options={"reset_mask": mask})
    assert infos["stage"][0] == "single"
    assert list(vector.env.get_attr("stage")) == ["single", "custom"]
    vector.close()
