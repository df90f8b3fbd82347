"""Datasets of pairs made of photographs: played, audited, evaluated, exported."""

import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from coco_files import SIZE

import dig_env  # noqa: F401, registers the environments
from dig_env import PairStatistics
from dig_env.agents import OraclePolicy, PixelDiffPolicy
from dig_env.agents.cli.render import render_photos
from dig_env.agents.data.export import export_dataset
from dig_env.agents.evaluation.external import read_coco_pairs
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.scenes import (
    PHOTO_CHANGES,
    PHOTO_STAGES,
    Album,
    PairDataset,
    RenderSettings,
    audit_dataset,
    photo_pair,
    render_dataset,
    views,
)


@pytest.fixture(scope="module")
def real_album(tmp_path_factory) -> Path:
    """The COCO file of scikit-image's photographs."""
    write_album = runpy.run_path("examples/pairs/photographs.py")["write_album"]
    return write_album(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def real_pairs(real_album, tmp_path_factory) -> Path:
    """20 mixed pairs of them, as a dataset."""
    folder = tmp_path_factory.mktemp("real") / "pairs"
    album = Album(real_album, size=(160, 120))
    render_dataset(folder, {"mixed": 20}, settings=RenderSettings(160, 120), album=album)
    return folder


# The game


def test_an_episode_on_real_photographs(real_pairs):
    env = PairStatistics(gym.make("DiG-v0", stage="mixed", dataset=real_pairs))
    oracle = OraclePolicy()
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert observation["image_a"].shape == (120, 160, 3)
        assert not np.array_equal(observation["image_a"], observation["image_b"])
        oracle.reveal(env.unwrapped.pair)
        answer = oracle.act([observation])[0]
        *_, reward, terminated, _, info = env.step(answer)
        assert terminated and reward > 0.95  # the oracle's boxes are rounded
        assert all(difference["change"] in PHOTO_CHANGES for difference in info["truth"])
        assert info["pair"]["hidden"] == [0.0] * len(info["truth"])
    env.close()


def test_a_dataset_of_photographs_passes_its_audit_and_holds_the_pairs(real_pairs, real_album):
    audit = audit_dataset(real_pairs)
    assert not audit.problems and audit.checked["labels"] == 20
    stored, album = PairDataset(real_pairs), Album(real_album, size=(160, 120))
    seed = stored.pair_seeds("mixed")[0]
    fresh, kept = photo_pair(seed, PHOTO_STAGES["mixed"], album), stored.pair(seed)
    assert fresh.plan == kept.plan and fresh.differences == kept.differences
    assert np.array_equal(fresh.image_b, kept.image_b)
    card = (real_pairs / "README.md").read_text()
    assert "license: other" in card and "Blender" not in card


def test_evaluation_and_export_read_photographs(real_pairs, tmp_path):
    report = evaluate_stored(PixelDiffPolicy(), real_pairs, stage="mixed", split="train")
    recall = report.to_json()["recall_by"]
    assert set(recall["change"]) <= set(PHOTO_CHANGES) and "size" not in recall
    assert report.f1 > 0.3
    export_dataset(real_pairs, tmp_path / "coco", "coco")
    (path,) = (tmp_path / "coco").glob("instances-*.json")
    read = {int(pair.name): pair for pair in read_coco_pairs(path)}
    for pair in PairDataset(real_pairs):
        assert np.allclose(read[pair.plan.seed].boxes_unit, pair.boxes_unit)


def test_the_command_makes_the_dataset(scenes_folder, tmp_path, capsys):
    options = {"stage": "dual", "count": 3, "width": 128, "height": 96}
    render_photos(scenes_folder / "instances.json", tmp_path / "pairs", **options)
    assert "6 photographs, 128x96" in capsys.readouterr().err
    assert [len(pair.differences) for pair in PairDataset(tmp_path / "pairs")] == [2, 2, 2]


def test_a_folder_holds_pairs_of_one_album(scenes_folder, real_album, tmp_path):
    small = RenderSettings(*SIZE)
    ours = Album(scenes_folder / "instances.json", size=SIZE)
    render_dataset(tmp_path, {"single": 1}, settings=small, album=ours)
    with pytest.raises(ValueError, match="made with photographs .* another folder"):
        other = Album(real_album, size=SIZE)
        render_dataset(tmp_path, {"single": 2}, settings=small, album=other)
    with pytest.raises(ValueError, match="give stage single=Difficulty"):
        render_dataset(tmp_path, {"single": 2}, settings=small)
    with pytest.raises(ValueError, match=r"128x96.*320x240.*size=\(320, 240\)"):
        render_dataset(tmp_path, {"single": 2}, album=ours)


def test_what_needs_a_scene_says_so(real_pairs):
    pair = next(iter(PairDataset(real_pairs)))
    with pytest.raises(ValueError, match="no scene is known"):
        views(pair)
