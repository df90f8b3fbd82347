"""``dig-env bench make`` and ``bench run``: DiG-Bench."""

from __future__ import annotations

import datetime
import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dig_env import __version__, instruction
from dig_env.agents.cli.common import PairAnswers, PairAnswersArgs, result_file
from dig_env.agents.cli.eval import how_played, pair_policy, say_asked
from dig_env.agents.cli.evaluation import Endpoint, EndpointArgs, EvaluationRun
from dig_env.agents.cli.output import Output, Printed, fail
from dig_env.scenes import STAGES
from dig_env.scenes.files import write_whole

if TYPE_CHECKING:
    from dig_env.agents.evaluation.bench.definition import Comparison, Definition

BEST_THRESHOLD = "pixeldiff-best"
CHEAP = ("random", "oracle", "pixeldiff", BEST_THRESHOLD)
"""Policies that answer faster than an answer is kept; that of "random" depends on those before."""


def bench_make(
    out: Annotated[Path, tyro.conf.Positional] = Path("dig-bench"),
    size: str | None = None,
    pairs: int = 200,
    workers: int | None = None,
    output: Printed = Output(),
) -> None:
    """Render the pairs of DiG-Bench. Stop at any time: the same command resumes.

    Args:
        out: folder to fill, ready for a hub of data sets; dig-bench.json in it has the hashes.
        size: width and height of the images, such as 320x240; by default 320x240 and 640x480.
        pairs: of each stage; with another number than 200 it is a trial, not the benchmark.
        workers: Blender processes; by default one a CPU core, if they fit in memory.
        output: what is printed.
    """
    from dig_env.agents.evaluation.bench.definition import FILE, SIZES, compare
    from dig_env.agents.evaluation.bench.make import make_benchmark

    sizes = SIZES if size is None else (size,)
    with output.progress("pairs", every=50) as on_pair:
        made = make_benchmark(out, sizes, pairs, workers=workers, on_pair=on_pair)
    compared = {name: compare(made, name) for name in sizes}
    for name, comparison in compared.items():
        output.say(f"{name}: {_verdict(comparison)}")
    result = {
        name: {
            "pairs": made.pairs * len(made.sizes[name].stages),
            "same": comparison.same,
            "reasons": comparison.reasons,
            **_hashes(made, name),
        }
        for name, comparison in compared.items()
    }
    output.result(result, benchmark=out, definition=out / FILE)
    if wrong := [name for name, comparison in compared.items() if comparison.is_other]:
        fail(f"the pairs of {' and '.join(wrong)} are another benchmark's: report it, please")
        sys.exit(1)


def bench_run(
    policy: str = "tiny",
    data: Path = Path("dig-bench"),
    size: str = "320x240",
    limit: int | None = None,
    leaderboard: Path | None = None,
    date: str | None = None,
    page: Path | None = None,
    out: Path | None = None,
    answers: PairAnswersArgs = PairAnswers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on DiG-Bench. Stop at any time: the same command resumes.

    Args:
        policy: tiny, tiny-start, random, oracle, pixeldiff, pixeldiff-best (at the threshold that
            is best on each stage), or a model's folder or hub name; with --base-url the model's
            name at that endpoint.
        data: folder that dig-env bench make filled.
        size: width and height of the images.
        limit: play only the first so many pairs of each stage.
        leaderboard: file of JSON lines that gets a line for this run; by default leaderboard.jsonl
            in the folder of --data.
        date: of the run, such as 2026-11-27; by default today's.
        page: also bring the tables of the leaderboard in this Markdown page up to date.
        out: JSON file for the result with every answer. By default runs/bench-POLICY-SIZE.json.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    from dig_env.agents.evaluation.bench.definition import FILE, NAME, Definition, compare
    from dig_env.agents.evaluation.bench.leaderboard import append_record, read_records
    from dig_env.agents.reporting.bench import fill_page, run_table

    out = result_file(out, "bench", policy, size)
    leaderboard = data / "leaderboard.jsonl" if leaderboard is None else leaderboard
    read_records(leaderboard)  # before anything is played
    date = str(datetime.date.fromisoformat(date) if date else datetime.date.today())
    made = Definition.load(data / FILE)
    if size not in made.sizes:
        raise ValueError(
            f"--size {size}: {data} has {', '.join(made.sizes)}; 'dig-env bench make {data} --size "
            f"{size}' makes the pairs"
        )
    comparison = compare(made, size)
    output.note(_verdict(comparison))
    dialect, frame = answers.chosen(policy)
    run = EvaluationRun(policy, out, frame, endpoint, output, dialect)
    result = _played(run, data, size, made, limit)
    which = {"benchmark": NAME, "version": made.version, "size": size, "same": comparison.same}
    how = {"dialect": dialect, "coordinates": frame.coordinates, "date": date}
    record = which | {"limit": limit, **_hashes(made, size), "policy": policy, **how}
    record |= {"dig_env": __version__, **result["figures"]}
    write_whole(out, json.dumps(result | {"record": record}, indent=1).encode() + b"\n")
    output.table(run_table(record))
    files = {}
    if not run.failed and result["unreadable"]["answers"] < result["unreadable"]["of"]:
        append_record(leaderboard, record)
        files["leaderboard"] = leaderboard
        if page is not None:
            write_whole(page, fill_page(page.read_text(), read_records(leaderboard)).encode())
            files["page"] = page
    run.finish(result | {"record": record}, **files)


def _played(
    run: EvaluationRun, data: Path, size: str, made: Definition, limit: int | None
) -> dict[str, Any]:
    """Play the pairs: the result as JSON values, with "figures" and "answers" by stage."""
    from dig_env.agents.evaluation.bench.definition import settings_of
    from dig_env.agents.evaluation.bench.play import at_best_threshold, figures, play_benchmark
    from dig_env.agents.evaluation.pairs import play_pairs
    from dig_env.agents.policies.kept_answers import KeepingPolicy
    from dig_env.agents.policies.policy import TrainedPrompt

    settings, stages = settings_of(size), made.sizes[size].stages
    shown = (settings.width, settings.height)
    difficulty = STAGES[next(iter(stages))]
    say_asked(run, instruction(run.answers.coordinates, shown, difficulty, run.dialect))
    best = run.policy == BEST_THRESHOLD and run.endpoint.base_url is None
    player: Any = None if best else pair_policy(run)
    asked = TrainedPrompt(player) if run.policy in ("tiny", "tiny-start") else player
    if run.endpoint.base_url is None and run.policy not in CHEAP:
        asked = KeepingPolicy(asked, run.keep())
    errors: list[str] = []
    with run.output.counting("pairs", len(stages) * (limit or made.pairs)) as on_episode:
        how = how_played(run, on_episode) | {"answers": run.dialect}
        play = at_best_threshold if best else functools.partial(play_pairs, asked)
        answers = play_benchmark(
            functools.partial(play, **how),
            data,
            size,
            made,
            limit,
            lambda stage, episodes: errors.extend(episode.error for episode in episodes),
        )
    fields = {"figures": figures(answers), "answers": answers}
    return run.result(player, fields, errors)


def _hashes(made: Definition, size: str) -> dict[str, str]:
    return {f"{what}_sha256": made.sizes[size].sha256(what) for what in ("plans", "pixels")}


def _verdict(comparison: Comparison) -> str:
    """What a comparison with the published definition says."""
    said = {
        "pixels": "the published pairs, to the last pixel",
        "plans": "the published pairs, on another kind of machine: figures may be compared",
        "": "not the published pairs",
    }
    return "; ".join((said[comparison.same], *comparison.reasons))
