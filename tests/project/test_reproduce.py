"""The experiments of examples/reproduce, in miniature."""

import dataclasses
import importlib
import json
import sys

import numpy as np
import pytest
from paths import ROOT
from warmup import Warmup

from dig_env.agents.evaluation.intervals import runs_interval
from dig_env.scenes import PAPER_STAGES, PairDataset
from dig_env.scenes.dataset.manifest import stage_seeds

FOLDER = ROOT / "examples" / "reproduce"


@pytest.fixture(scope="module")
def arms():
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("arms")
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def settings(arms, tmp_path_factory):
    out = tmp_path_factory.mktemp("reproduce")
    return arms.Settings(
        seeds=(0,),
        steps=1,
        train_pairs=4,
        test_pairs=3,
        pairs=out / "pairs",
        runs=out / "runs",
        processes=1,
    )


@pytest.fixture(scope="module")
def outcomes(arms, settings):
    return arms.run_arms(settings, [arms.Arm("mixed only", "f1"), arms.Arm("random")])


def test_every_run_is_evaluated_on_the_same_held_out_pairs_of_every_stage(arms, outcomes):
    table = arms.compare(outcomes, "random-full")
    assert list(table) == ["start", "mixed_only-f1", "random-full"]
    starts = [runs[0]["held_out"]["before"] for runs in outcomes.values()]
    assert starts[0] == starts[1]
    for stage in PAPER_STAGES:
        assert len(starts[0][stage]) == 3
        assert table["random-full"][stage]["f1_gain"] == [0, 0, 0]
        mean, low, high = table["mixed_only-f1"][stage]["f1"]
        assert 0 <= low <= mean <= high <= 1


def test_a_script_that_is_run_again_trains_only_what_is_missing(arms, settings, outcomes):
    there = {path: path.stat().st_mtime_ns for path in settings.runs.rglob("outcome.json")}
    assert len(there) == 2
    arms.run_arms(settings, [arms.Arm("mixed only", "f1"), arms.Arm("random")])
    assert {path: path.stat().st_mtime_ns for path in settings.runs.rglob("outcome.json")} == there


def test_the_pairs_to_train_on_are_none_that_the_warm_up_saw(arms, settings, outcomes):
    """The warm-up takes the first pairs of each stage."""
    dataset = PairDataset(settings.pairs)
    most = max(count for _, count in Warmup().stages)
    for stage in PAPER_STAGES:
        assert dataset.pair_seeds(stage, "train") == list(stage_seeds("train", stage)[9600:9604])
        assert len(dataset.pair_seeds(stage, "test")) == 3
    assert most <= arms.FIRST_PAIR


def test_regimes_are_made_in_parts_and_from_the_runs_that_are_committed(arms, settings, tmp_path):
    """The parts here: one that begins no run, one of seed 0, and one on a machine without runs."""
    regimes = importlib.import_module("regimes")
    few = {"steps": 1, "train_pairs": 4, "test_pairs": 3, "pairs": settings.pairs, "processes": 1}
    few |= {"starts": ("tiny-start",), "rewards": ("exact",), "out": tmp_path / "regimes.json"}
    few |= {"plot": tmp_path / "regimes.png", "curricula": ("mixed only", "easy to hard")}
    here = regimes.Regimes(**few, seeds=(0,), runs=tmp_path / "here", minutes=0)
    with pytest.raises(SystemExit, match="no run has ended"):
        regimes.main(here)
    regimes.main(dataclasses.replace(here, minutes=None))
    results = json.loads(few["out"].read_text())
    assert [run["curriculum"] for run in results["runs"]] == ["mixed only", "easy to hard"]
    both, gain = results["table"]
    assert "gain_on_mixed" not in both and len(gain["gain_on_mixed"]) == 3
    for run in results["runs"]:
        assert {len(run["after"][stage]) for stage in PAPER_STAGES} == {3}
    assert (tmp_path / "regimes.png").exists()

    there = dataclasses.replace(here, runs=tmp_path / "there", seeds=(0, 1))
    regimes.main(there)
    assert json.loads(few["out"].read_text()) == results, "seed 1 is left for the next time"
    with pytest.raises(SystemExit, match="give another --out"):
        regimes.main(dataclasses.replace(there, steps=2))


def test_intervals_hold_for_other_runs_and_other_pairs():
    generator = np.random.default_rng(0)
    runs = generator.normal(0, 1, (3, 1)) + np.zeros((3, 400))
    pairs = generator.normal(0, 1, (1, 400)) + np.zeros((3, 400))
    assert runs_interval(np.full((3, 400), 0.25)) == [0.25, 0.25, 0.25]
    mean, low, high = runs_interval(pairs)
    assert mean == pytest.approx(pairs.mean(), abs=1e-4)
    # Runs that agree: the interval of a mean over 400 pairs of standard deviation 1.
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    # Pairs that agree: three runs spread it over most of their range.
    mean, low, high = runs_interval(runs)
    assert high - low > 0.7 * np.ptp(runs)
