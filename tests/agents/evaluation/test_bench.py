"""DiG-Bench: frozen pairs that are made again the same, played, resumed and compared."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from endpoint import completion, serving
from paths import ROOT

from dig_env.agents import OraclePolicy, PixelDiffPolicy
from dig_env.agents.cli import main as cli
from dig_env.agents.evaluation.bench.definition import (
    FILE,
    PAIRS,
    PUBLISHED,
    SIZES,
    Definition,
    compare,
    planned_sha256,
    settings_of,
)
from dig_env.agents.evaluation.bench.leaderboard import append_record, read_records
from dig_env.agents.evaluation.bench.make import describe, make_benchmark
from dig_env.agents.evaluation.bench.play import at_best_threshold, figures, play_benchmark
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.agents.policies.kept_answers import KeepingPolicy, KeptAnswers
from dig_env.agents.reporting.bench import fill_page, leaderboard_table, run_table
from dig_env.scenes import PairDataset, audit_dataset
from dig_env.scenes.plans.stages import BUILT_IN_STAGES

SIZE = "64x48"
STAGES = ("dual", "nuisance")  # the second has pairs in which nothing differs
TINY = {"sizes": (SIZE,), "pairs": 2, "stages": STAGES, "workers": 1}
LEADERBOARD = ROOT / "docs/results/bench.jsonl"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Two pairs of two stages; the folder may be written to by no test."""
    folder = tmp_path_factory.mktemp("bench")
    make_benchmark(folder, **TINY)
    return folder


@pytest.fixture
def made(bench):
    return Definition.load(bench / FILE)


@pytest.fixture
def run(bench, tmp_path, monkeypatch, capsys):
    """dig-env bench run: its exit code, its result and what it told; the rest is in tmp_path."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        shared = ["--data", bench, "--size", SIZE, "--leaderboard", "board.jsonl", "--json"]
        command = ["dig-env", "bench", "run", *shared, *arguments]
        monkeypatch.setattr("sys.argv", [*map(str, command)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        return code, json.loads(printed.out or "null"), printed.err

    return call


def play(policy, bench, made, **options):
    return play_benchmark(functools.partial(play_pairs, policy), bench, SIZE, made, **options)


# Making


def test_the_same_command_in_another_process_makes_the_same_hashes(bench, tmp_path):
    source = (
        "from pathlib import Path; "
        "from dig_env.agents.evaluation.bench.make import make_benchmark; "
        f"make_benchmark(Path({str(tmp_path)!r}), {(SIZE,)}, 2, {STAGES}, workers=2)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", source], check=True, env=environment)
    assert (tmp_path / FILE).read_text() == (bench / FILE).read_text()
    assert (tmp_path / "README.md").read_text() == (bench / "README.md").read_text()


def test_a_stopped_make_is_resumed_without_rendering_again(tmp_path, bench):
    make_benchmark(tmp_path, **TINY | {"stages": STAGES[:1]})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/data/*.parquet")}
    seen = []
    make_benchmark(tmp_path, **TINY, on_pair=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert (tmp_path / FILE).read_text() == (bench / FILE).read_text()


def test_the_plans_can_be_hashed_without_blender(made):
    for name, stage in made.sizes[SIZE].stages.items():
        assert planned_sha256(name, stage) == stage.plans_sha256


def test_the_folder_is_a_sound_dataset_of_test_pairs(bench):
    assert audit_dataset(bench / SIZE).problems == ()
    assert PairDataset(bench / SIZE).splits == ("test",)
    assert PairDataset(bench / SIZE).settings == settings_of(SIZE)


def test_the_card_is_read_by_datasets_and_shows_decoded_images(bench):
    header = yaml.safe_load((bench / "README.md").read_text().split("---\n")[1])
    assert "rl-environment" in header["tags"] and header["license"] == "apache-2.0"
    pairs = datasets.load_dataset(str(bench), SIZE, split="test")
    assert sorted(pairs["stage"]) == ["dual", "dual", "nuisance", "nuisance"]
    assert isinstance(pairs.features["image_a"], datasets.Image)
    stored = PairDataset(bench / SIZE).pair(pairs[0]["pair_seed"])
    assert np.array_equal(np.asarray(pairs[0]["image_a"]), stored.image_a)


@pytest.mark.parametrize("size", ["64", "64x", "ax48", "8x8"])
def test_a_size_that_is_none_is_an_error(size):
    with pytest.raises(ValueError, match="size '|width=8"):
        settings_of(size)


def test_pairs_that_were_rendered_otherwise_are_refused(tmp_path, bench):
    shutil.copytree(bench / SIZE, tmp_path / "96x64")
    with pytest.raises(ValueError, match="take it out of the folder"):
        describe(tmp_path, 1)


# Comparing


@pytest.fixture
def published(made):
    """A definition of all stages, with the hashes of two."""
    (stage, *_) = made.sizes[SIZE].stages.values()
    return with_stages(made, dict.fromkeys(BUILT_IN_STAGES, stage))


def with_stages(definition, stages, **made_with):
    size = definition.sizes[SIZE]
    size = dataclasses.replace(size, stages=stages, made_with=size.made_with | made_with)
    return dataclasses.replace(definition, sizes={SIZE: size})


def test_equal_pixels_are_the_benchmark(published):
    assert compare(published, SIZE, published).same == "pixels"


def test_other_pixels_of_the_same_plans_may_be_compared_and_the_cause_is_named(published):
    stages = published.sizes[SIZE].stages
    other = stages | {"mixed": dataclasses.replace(stages["mixed"], pixels_sha256="0")}
    found = compare(with_stages(published, other, processor="x86_64 avx2"), SIZE, published)
    assert found.same == "plans" and not found.is_other
    assert "mixed" in found.reasons[0] and "processor x86_64 avx2 instead of" in found.reasons[0]


def test_other_plans_are_another_benchmark(published):
    stages = published.sizes[SIZE].stages
    other = stages | {"mixed": dataclasses.replace(stages["mixed"], plans_sha256="0")}
    found = compare(with_stages(published, other), SIZE, published)
    assert found.same == "" and found.is_other and "the plans of mixed" in found.reasons[0]


def test_fewer_pairs_or_another_size_are_a_trial(made, published):
    assert "trial" in compare(made, SIZE).reasons[0]
    fewer = dataclasses.replace(published, pairs=1)
    assert not compare(fewer, SIZE, published).is_other


def test_the_published_plans_are_those_that_are_made_today():
    """On every machine. If it fails, the planner has changed: raise the version, make it anew."""
    published = Definition.load(PUBLISHED)
    assert published.pairs == PAIRS and set(published.sizes) <= set(SIZES)
    for size in published.sizes.values():
        for name, stage in size.stages.items():
            assert len(stage.attempts) == PAIRS
            assert planned_sha256(name, stage) == stage.plans_sha256, name


# Playing


def test_the_oracle_finds_everything_and_says_where_nothing_differs(bench, made):
    found = figures(play(OraclePolicy(), bench, made))
    assert found["pairs"] == 4 and found["f1"] == found["recall"] == [1.0, 1.0, 1.0]
    assert list(found["by_stage"]) == list(STAGES)
    counted = sum(entry["differences"] for entry in found["by_change"].values())
    truth = [pair.differences for pair in PairDataset(bench / SIZE)]
    assert counted == sum(map(len, truth))
    same = sum(not differences for differences in truth)
    assert (found["nothing_differs"] or {"pairs": 0})["pairs"] == same


def test_figures_are_means_over_the_pairs_and_shares_of_the_differences():
    rows = [
        {"changes": ["color", "add"], "found": [1], "f1": 0.5, "reward": 0.4, "iou": 0.3},
        {"changes": ["add"], "found": [0], "f1": 1.0, "reward": 0.8, "iou": 0.9},
        {"changes": [], "found": [], "f1": 0.0, "reward": 0.0, "iou": 0.0},
    ]
    found = figures({"dual": rows[:1], "nuisance": rows[1:]})
    assert found["f1"][0] == 0.5 and found["reward"][0] == 0.4 and found["recall"][0] == 0.6667
    assert found["by_stage"]["nuisance"]["f1"] == [0.5, 0.0, 1.0]
    assert found["by_change"]["add"]["recall"][0] == 1.0
    assert found["by_change"]["color"] == {"differences": 1, "recall": [0.0, 0.0, 0.0]}
    assert found["nothing_differs"]["pairs"] == 1 and found["nothing_differs"]["f1"][0] == 0.0
    assert found["nothing_differs"]["recall"] is None


def test_no_threshold_earns_more_than_the_best(bench, made):
    best = play_benchmark(at_best_threshold, bench, SIZE, made)
    for threshold in (10, 25, 100):
        some = play(PixelDiffPolicy(threshold), bench, made)
        for stage in STAGES:
            earned = (sum(row["reward"] for row in rows[stage]) for rows in (best, some))
            assert next(earned) >= next(earned) - 1e-9


def test_a_limit_plays_the_first_pairs_of_each_stage(bench, made):
    few = play(OraclePolicy(), bench, made, limit=1)
    everything = play(OraclePolicy(), bench, made)
    assert few == {stage: rows[:1] for stage, rows in everything.items()}
    with pytest.raises(ValueError, match="give 1 to 2 pairs"):
        play(OraclePolicy(), bench, made, limit=3)


class Stops(PixelDiffPolicy):
    """Is stopped after so many answers."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def act(self, observations):
        if len(observations) > self.left:
            raise KeyboardInterrupt
        self.left -= len(observations)
        return super().act(observations)


def test_a_stopped_run_goes_on_with_the_answers_it_has(bench, made, tmp_path):
    path = tmp_path / "kept.jsonl"
    whole = play(PixelDiffPolicy(), bench, made)
    with pytest.raises(KeyboardInterrupt):
        play(KeepingPolicy(Stops(2), KeptAnswers(path)), bench, made)
    kept = KeptAnswers(path)
    assert len(kept) == 2
    assert play(KeepingPolicy(Stops(2), kept), bench, made) == whole


# The command and the leaderboard


def test_a_run_prints_its_table_and_adds_a_line_to_the_leaderboard(run, made):
    code, result, told = run("--policy", "random", "--date", "2026-11-27")
    assert code == 0 and "a trial" in told
    (record,) = read_records(Path(result["files"]["leaderboard"]))
    assert record == result["record"]
    assert record["policy"] == "random" and record["date"] == "2026-11-27"
    assert record["plans_sha256"] == made.sizes[SIZE].sha256("plans")
    table = run_table(record)
    assert [row[0] for row in table.rows][:3] == ["all", *STAGES]
    assert any(row[0].startswith("change: ") for row in table.rows)


def test_the_embedded_policy_leaves_no_answers_behind_when_it_is_done(run, tmp_path):
    code, result, _ = run("--policy", "tiny", "--limit", "1", "--date", "2026-11-27")
    assert code == 0 and result["record"]["limit"] == 1
    assert not list(tmp_path.glob("runs/*.answers.jsonl"))
    assert run("--policy", "tiny", "--limit", "1", "--date", "2026-11-27")[0] == 0
    assert len(read_records(tmp_path / "board.jsonl")) == 1  # the same run is no second line


def test_a_run_with_a_question_unanswered_is_no_line_until_it_is_asked_again(run, tmp_path):
    broken, asked = [True], []

    def answer(body):
        asked.append(json.dumps(body["messages"]))
        fails = broken[0] and asked[-1] == asked[0]
        return (400, {}, {"error": "bad picture"}) if fails else (200, {}, completion("[]"))

    with serving(answer) as server:
        arguments = ("--policy", "looker", "--base-url", server.url, "--concurrency", "1")
        code, result, told = run(*arguments)
        assert code == 1 and result["record"]["pairs"] == 3 and "bad picture" in told
        assert not (tmp_path / "board.jsonl").exists()
        broken[0], before = False, len(asked)
        code, result, told = run(*arguments)
    assert code == 0 and len(asked) == before + 1 and "resuming with 3 answers" in told
    assert [record["pairs"] for record in read_records(tmp_path / "board.jsonl")] == [4]


def test_a_mistake_is_told_before_anything_is_played(run, tmp_path):
    for arguments, message in (
        (("--size", "32x32"), "bench make"),
        (("--data", tmp_path), "bench make"),
        (("--date", "27.11.2026"), "isoformat"),
        (("--limit", "9"), "give 1 to 2 pairs"),
    ):
        code, _, told = run("--policy", "random", *arguments)
        assert code == 2 and message in told, arguments


def test_records_of_runs_that_end_at_once_are_all_there(tmp_path):
    path = tmp_path / "board.jsonl"
    source = (
        "import sys; from pathlib import Path; "
        "from dig_env.agents.evaluation.bench.leaderboard import append_record\n"
        f"for i in range(5): append_record(Path({str(path)!r}), "
        '{"policy": sys.argv[1], "size": "a", "f1": [i]})'
    )
    started = [subprocess.Popen([sys.executable, "-c", source, name]) for name in "ab"]
    assert [process.wait() for process in started] == [0, 0]
    assert len(read_records(path)) == 10


def test_a_leaderboard_with_a_foreign_line_is_left_alone(tmp_path):
    path = tmp_path / "board.jsonl"
    path.write_text('{"policy": "a"}\n')
    with pytest.raises(ValueError, match="line 1, is no run"):
        append_record(path, {"policy": "b", "size": SIZE, "f1": [0, 0, 0]})
    assert path.read_text() == '{"policy": "a"}\n'


def test_a_leaderboard_shows_the_best_first_and_trials_only_where_there_is_nothing_else():
    def record(policy, f1, same="", limit=None):
        entry = {"f1": [f1, f1, f1], "pairs": 2600}
        run = {"policy": policy, "size": SIZE, "same": same, "limit": limit}
        return entry | run | {"by_stage": {"dual": entry}}

    trials = [record("low", 0.1), record("high", 0.9)]
    table = leaderboard_table(trials, SIZE)
    assert table.header == ["F1 of", "pairs", "all", "dual"]
    assert table.rows[0] == ("high", "2,600", "0.900 (0.900, 0.900)", "0.90")
    assert [row[0] for row in table.rows] == ["high", "low"]
    published = [record("part", 0.8, "pixels", limit=5), record("whole", 0.7, "plans")]
    assert [row[0] for row in leaderboard_table(trials + published, SIZE).rows] == ["whole"]


def test_a_run_brings_a_pages_table_up_to_date(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- table: {SIZE} -->\n<!-- end -->\nafter\n")
    assert run("--policy", "oracle", "--page", page)[0] == 0
    assert "| oracle | 4 | 1.000 (1.000, 1.000) |" in page.read_text()
    assert page.read_text().startswith("before") and page.read_text().endswith("after\n")


def test_the_page_shows_the_published_leaderboard():
    page = (ROOT / "docs/bench.md").read_text()
    records = read_records(LEADERBOARD)
    assert {"random", "oracle", "pixeldiff-best", "tiny"} <= {
        record["policy"] for record in records
    }
    assert fill_page(page, records) == page and "<!-- table: 320x240 -->" in page
