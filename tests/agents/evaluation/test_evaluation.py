"""Evaluation: what is counted, how sure it is, where differences lie, what people get to see."""

import dataclasses
import html
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from PIL import Image
from small import SMALL

from dig_env import format_boxes
from dig_env.agents import OraclePolicy, PixelDiffPolicy, evaluate
from dig_env.agents.evaluation.breakdown import AXES, metrics_by_count, recall_by_axis
from dig_env.agents.evaluation.episodes import METRICS, mean_metrics, metric_values
from dig_env.agents.evaluation.intervals import mean_intervals, ratio_intervals
from dig_env.agents.evaluation.pairs import EvaluationResult, evaluate_stored, play_pairs
from dig_env.agents.reporting.evaluation import write_evaluation
from dig_env.agents.reporting.report import worst_and_best
from dig_env.scenes import (
    CHANGES,
    PAPER_CHANGES,
    STAGES,
    Change,
    Difficulty,
    PairDataset,
    plan_pair,
    render_dataset,
)
from dig_env.scenes.measure.occlusion import hidden_share, silhouette


class Answers:
    """Says the same to everything."""

    def __init__(self, text):
        self.text = text

    def act(self, observations):
        return [self.text] * len(observations)


class FirstOnly(OraclePolicy):
    """Finds the first difference of each pair and no other."""

    def act(self, observations):
        return [answer.split("], [")[0].rstrip("]") + "]]" for answer in super().act(observations)]


@pytest.fixture(scope="module")
def episodes(pairs):
    """What pixel difference answers on the 200 mixed pairs."""
    return play_pairs(PixelDiffPolicy(), pairs["mixed"])


# What is counted


def test_count_accuracy_is_the_share_of_answers_with_as_many_boxes_as_differences(pairs):
    two_boxes = Answers("[[0, 0, 10, 10], [20, 20, 30, 30]]")
    counts = [len(pair.differences) for pair in pairs["mixed"]]
    assert mean_metrics(play_pairs(two_boxes, pairs["mixed"]))["count_accuracy"] == pytest.approx(
        counts.count(2) / len(counts)
    )


def test_an_invalid_answer_has_no_count(pairs):
    one_of_two_is_inverted = Answers("[[0, 0, 10, 10], [30, 30, 20, 20]]")
    assert mean_metrics(play_pairs(one_of_two_is_inverted, pairs["dual"]))["count_accuracy"] == 0.0


def test_where_nothing_differs_the_empty_list_has_the_right_count(pairs):
    same = dataclasses.replace(pairs["single"][0], differences=())
    for text, right in (("[]", 1.0), ("nothing", 0.0), ("[[0, 0, 10, 10]]", 0.0)):
        assert mean_metrics(play_pairs(Answers(text), [same]))["count_accuracy"] == right


# How sure it is


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(1).beta(2, 1, (100, 3))
    ours = mean_intervals(values, resamples=4000, seed=0)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=0
    ).confidence_interval
    assert ours[:, 0] == pytest.approx(values.mean(axis=0))
    assert ours[:, 1] == pytest.approx(theirs.low, abs=0.004)
    assert ours[:, 2] == pytest.approx(theirs.high, abs=0.004)


def test_intervals_of_a_share_draw_pairs_and_not_differences():
    rng = np.random.default_rng(2)
    there = rng.integers(1, 5, 150)
    found = np.where(rng.random(150) < 0.6, there, 0)  # all of a pair's differences, or none
    ((share, low, high),) = ratio_intervals(found[:, None], there[:, None], resamples=4000)
    theirs = scipy.stats.bootstrap(
        (found, there),
        lambda parts, totals, axis: parts.sum(axis) / totals.sum(axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        random_state=0,
    ).confidence_interval
    assert share == pytest.approx(found.sum() / there.sum())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


def test_a_resample_without_any_of_a_rare_group_is_left_out():
    parts, totals = np.zeros((30, 1)), np.zeros((30, 1))
    parts[7], totals[7] = 1, 2
    assert ratio_intervals(parts, totals).tolist() == [[0.5, 0.5, 0.5]]


def test_the_same_seed_gives_the_same_intervals(episodes):
    reports = [EvaluationResult("mixed", "test", 3, tuple(episodes)).to_json() for _ in range(2)]
    assert reports[0] == reports[1]
    other = EvaluationResult("mixed", "test", 4, tuple(episodes)).to_json()
    assert other["f1"] == reports[0]["f1"] and other["intervals"] != reports[0]["intervals"]


# Where differences lie


@pytest.mark.parametrize("axis", AXES)
def test_every_difference_is_in_one_group_of_each_axis(episodes, axis):
    groups = recall_by_axis(episodes)[axis]
    counted = sum(group["differences"] for group in groups.values())
    assert counted == sum(len(episode.pair.differences) for episode in episodes)
    found = sum(group["differences"] * group["recall"][0] for group in groups.values())
    assert found == pytest.approx(sum(len(episode.found) for episode in episodes))
    assert all(low <= share <= high for share, low, high in (g["recall"] for g in groups.values()))


@pytest.mark.parametrize("axis", ["change", "size", "area", "position"])
def test_mixed_pairs_fill_every_group(episodes, axis):
    elsewhere = set(CHANGES) - set(PAPER_CHANGES)  # other worlds and photographs
    groups = [group for group in AXES[axis].groups if group not in elsewhere]
    assert list(recall_by_axis(episodes)[axis]) == groups


def test_recall_of_a_change_type_is_that_of_its_differences(pairs):
    hits = {change: [] for change in PAPER_CHANGES}
    episodes = play_pairs(FirstOnly(), pairs["dual"])
    for pair in pairs["dual"]:
        first, second = pair.differences
        hits[first.change].append(1)
        hits[second.change].append(0)
    groups = recall_by_axis(episodes)["change"]
    for change, expected in hits.items():
        assert groups[change]["differences"] == len(expected)
        assert groups[change]["recall"][0] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("box", "group"),
    [
        ((0, 40, 20, 60), "left"),
        ((100, 0, 128, 20), "right"),
        ((50, 0, 70, 20), "top"),
        ((50, 40, 70, 50), "center"),
        ((50, 80, 70, 96), "bottom"),
        ((0, 0, 128, 96), "center"),
    ],
)
def test_position_is_the_third_of_the_image_that_holds_the_middle_of_the_box(pairs, box, group):
    pair = pairs["single"][0]
    difference = dataclasses.replace(pair.differences[0], box=box)
    assert AXES["position"].group_of(pair, difference) == group


def test_the_size_of_an_object_that_changes_it_is_both(pairs):
    for pair in pairs["mixed"]:
        for difference in pair.differences:
            group = AXES["size"].group_of(pair, difference)
            assert (group == "both") == (difference.change == "size")


def test_pairs_are_told_apart_by_their_number_of_differences(episodes):
    by_count = metrics_by_count(episodes)
    assert list(by_count) == ["1", "2", "3", "4"]
    for count, entry in by_count.items():
        chosen = [e for e in episodes if len(e.pair.differences) == int(count)]
        assert entry["pairs"] == len(chosen)
        assert [entry[name][0] for name in METRICS] == pytest.approx(
            metric_values(chosen).mean(axis=0)
        )


# Occlusion


def test_occlusion_agrees_with_blender_showing_the_object_alone(renderer):
    behind = Difficulty(
        objects=(5, 7), changes=("add", "delete"), occlusion=(0.2, 0.6), min_visible=0.001
    )
    for pair in renderer.imap(plan_pair(seed, behind) for seed in range(3)):
        (change,) = pair.plan.changes
        object_id = change.object_id
        share = hidden_share(pair, object_id)
        obj = change.before or change.after
        plan = dataclasses.replace(
            pair.plan,
            objects=(),
            changes=(Change("delete", obj, None),),
            difficulty=dataclasses.replace(behind, occlusion=(0.0, 1.0)),
            attempt=0,
        )
        alone = renderer.render(plan)
        assert alone.plan == plan
        silhouette_px = (alone.ids_a == object_id).sum()
        visible_px = (pair.ids_a == object_id).sum() + (pair.ids_b == object_id).sum()
        assert share > 0.1
        assert share == pytest.approx(1 - visible_px / silhouette_px, abs=0.05)


def test_no_object_is_seen_outside_its_silhouette(pairs):
    for pair in pairs["mixed"][:50]:
        height, width = pair.ids_a.shape
        for obj in pair.plan.scene_a:
            outline = silhouette(obj, pair.plan.camera, width, height)
            assert not (outline < (pair.ids_a == obj.id)).any()


def test_an_object_that_is_in_neither_image_has_no_occlusion(pairs):
    with pytest.raises(ValueError, match="object 99 is in neither image"):
        hidden_share(pairs["single"][0], 99)


# Stored pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "pairs"
    render_dataset(path, {"dual": 4}, "test", SMALL, workers=1)
    return path


def test_stored_pairs_are_played_by_pair_seed(folder):
    report = evaluate_stored(OraclePolicy(), folder, stage="dual")
    assert [e.pair.plan.seed for e in report.episodes] == list(
        PairDataset(folder).pair_seeds("dual", "test")
    )
    assert report.f1 == 1.0 and report.source == str(folder)


def test_fewer_stored_pairs_may_be_played_but_not_more(folder):
    assert len(evaluate_stored(OraclePolicy(), folder, stage="dual", episodes=3).episodes) == 3
    with pytest.raises(ValueError, match="has 4 pairs of test/dual; give 1 to 4"):
        evaluate_stored(OraclePolicy(), folder, stage="dual", episodes=5)


def test_a_split_that_is_not_stored_is_named(folder):
    with pytest.raises(ValueError, match="it has test/dual"):
        evaluate_stored(OraclePolicy(), folder, stage="dual", split="train")


def test_the_command_line_plays_stored_pairs_and_writes_json_and_a_report(folder, tmp_path):
    out, page = tmp_path / "result.json", tmp_path / "result.html"
    command = [
        *(sys.executable, "-c", "from dig_env.agents.cli.main import main; main()", "eval"),
        *("--policy", "oracle", "--coordinates", "pixel", "--stage", "dual"),
        *("--dataset", str(folder), "--out", str(out)),
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(out.read_text())
    assert result["f1"] == 1.0 and result["source"] == str(folder) and result["usage"] is None
    assert [answer["pair_seed"] for answer in result["answers"]] == list(
        PairDataset(folder).pair_seeds("dual", "test")
    )
    assert "oracle on dual" in page.read_text()
    assert "count_accuracy" in ran.stdout and "occlusion" in ran.stdout


# What people get to see


def test_the_report_is_json_with_an_interval_for_every_metric(episodes):
    result = json.loads(json.dumps(EvaluationResult("mixed", "test", 0, tuple(episodes)).to_json()))
    for metric in METRICS:
        mean, low, high = result["intervals"][metric]
        assert low <= mean <= high and mean == pytest.approx(result[metric])
    assert set(result["recall_by"]) == set(AXES)
    assert result["size"] == [128, 96]


def test_worst_and_best_pairs_are_the_extremes_and_never_the_same(episodes):
    def reward(episode):
        return episode.score.total

    worst, best = worst_and_best(episodes, reward, 6)
    rewards = sorted(episode.score.total for episode in episodes)
    assert [episode.score.total for episode in worst] == rewards[:6]
    assert [episode.score.total for episode in best] == rewards[::-1][:6]
    few_worst, few_best = worst_and_best(episodes[:3], reward, 6)
    assert len(few_worst) == 2 and len(few_best) == 1
    assert not {id(e) for e in few_worst} & {id(e) for e in few_best}


def written(report, policy, folder):
    """The report of an evaluation as HTML."""
    told = {"policy": policy, "reward_name": "full", "coordinates": "norm1000"}
    told |= {"command": "dig-env eval", "usage": None}
    told |= {"dialect": "strict", "prompt": "Find every difference.", "assumed": {}}
    write_evaluation(folder / "result.json", report, told | report.to_json())
    return (folder / "result.html").read_text()


def test_the_report_holds_plot_tables_and_pictures_and_needs_nothing_else(episodes, tmp_path):
    report = EvaluationResult("mixed", "test", 0, tuple(episodes))
    page = html.unescape(written(report, "pixeldiff", tmp_path))
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("<figure>") == 12 and page.count("<svg") == 1
    assert all(axis.meaning in page for axis in AXES.values())
    assert f"{report.f1:.3f}" in page
    assert Image.open(tmp_path / "result.png").size[0] > 500


def test_what_a_model_writes_cannot_become_part_of_the_report(pairs, tmp_path):
    hostile = "<script>alert(1)</script>" + "x" * 1000 + "<img src=y>"
    report = EvaluationResult(
        "single", "test", 0, tuple(play_pairs(Answers(hostile), pairs["single"][:2]))
    )
    page = written(report, "<i>x", tmp_path)
    assert "<script>" not in page and "<img src=y>" not in page and "<i>x" not in page
    assert "&lt;img src=y&gt;" in page


def test_boxes_in_another_frame_are_read_and_drawn_in_it(pairs):
    (pair,) = pairs["single"][:1]
    text = format_boxes(pair.boxes_unit, "pixel", (128, 96), exact=True)
    (episode,) = play_pairs(Answers(text), [pair], coordinates="pixel")
    assert episode.score.f1 == 1.0
    assert episode.score.answer.boxes == pytest.approx(pair.boxes_unit)


def test_an_evaluation_is_the_same_whatever_the_batch_size():
    reports = [
        evaluate(
            PixelDiffPolicy(), stage="dual", episodes=3, seed=2, settings=SMALL, batch_size=size
        )
        for size in (1, 3)
    ]
    assert reports[0].to_json() == reports[1].to_json()
    assert set(STAGES) >= {reports[0].stage}
