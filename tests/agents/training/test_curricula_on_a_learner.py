"""What curricula do with a learner: with a simulated one that needs them, and with PPO."""

import importlib
import json
import sys
from collections import Counter

import numpy as np
import pytest
from paths import ROOT

from dig_env.curricula.adaptive import AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay
from dig_env.curricula.schedules import RandomCurriculum
from dig_env.curricula.threshold import Curriculum, StageCurriculum

STAGES = ("single", "dual", "mixed")
KINDS = pytest.mark.parametrize(
    "kind", [AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay]
)


class Learner:
    """Succeeds at a stage with a probability, its skill, that practice there raises.

    A stage is learned the faster, the better the one before is mastered. A reward is the mean of
    eight tries, as GRPO tells of a pair.
    """

    def __init__(self, seed: int) -> None:
        self.skill = dict.fromkeys(STAGES, 0.05)
        self._rng = np.random.default_rng(seed)

    def play(self, stage: str) -> float:
        basis = self.skill[STAGES[STAGES.index(stage) - 1]] if stage != "single" else 1.0
        reward = self._rng.binomial(8, self.skill[stage]) / 8
        self.skill[stage] += 0.01 * basis**2 * (1.0 - self.skill[stage])
        return reward


def lessons(curriculum: StageCurriculum, seed: int, count: int = 2000) -> list[tuple[str, dict]]:
    """The stage of each of so many episodes, with the learner's skills before it."""
    learner, seen = Learner(seed), []
    for _ in range(count):
        stage = curriculum.choose()
        seen.append((stage, dict(learner.skill)))
        curriculum.update(learner.play(stage), stage)
    return seen


SEEDS = range(4)


@KINDS
def test_a_stage_is_practised_most_while_it_is_being_learned(kind):
    """Of the four learners' episodes at which the skill of "dual" or "mixed" is 0.2 to 0.9."""
    played_at = [entry for seed in SEEDS for entry in lessons(kind(seed=seed), seed)]
    for learned in ("dual", "mixed"):
        stages = Counter(stage for stage, skill in played_at if 0.2 <= skill[learned] <= 0.9)
        assert stages.most_common(1)[0][0] == learned


@KINDS
@pytest.mark.parametrize("seed", SEEDS)
def test_every_stage_is_played_and_the_last_is_mastered_before_random_stages_do(kind, seed):
    def mastered(curriculum: StageCurriculum) -> int:
        skills = [skill["mixed"] >= 0.9 for _, skill in lessons(curriculum, seed)]
        return skills.index(True)

    assert {stage for stage, _ in lessons(kind(seed=seed), seed)} == set(STAGES)
    assert mastered(kind(seed=seed)) < mastered(RandomCurriculum(STAGES, seed)) - 100


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_mastered_difficulty_stays_at_the_last_and_the_others_spread(seed):
    def ending(curriculum: StageCurriculum) -> Counter[str]:
        return Counter(stage for stage, _ in lessons(curriculum, seed)[-500:])

    assert ending(AdaptiveDifficulty(seed=seed)) == {"mixed": 500}
    for kind in (LearningProgress, PrioritizedStageReplay):
        assert min(ending(kind(seed=seed))[stage] for stage in STAGES) > 75


def test_mixed_only_teaches_this_learner_nothing():
    """Else the tests above would be of no difficulty."""
    assert lessons(Curriculum(("mixed",)), seed=0)[-1][1]["mixed"] < 0.2


@pytest.fixture(scope="module")
def research():
    folder = str(ROOT / "examples" / "reproduce")
    sys.path.insert(0, folder)
    yield importlib.import_module("curriculum_research")
    sys.path.remove(folder)


def test_the_experiment_gives_every_curriculum_as_many_answers_and_compares_them(
    research, tmp_path
):
    settings = research.Settings(
        curricula=("mixed only", "random"),
        seeds=(0,),
        steps=1024,
        train_pairs=4,
        validation_pairs=1,
        test_pairs=3,
        curve_every=1,
        pairs=tmp_path / "pairs",
        runs=tmp_path / "runs",
        out=tmp_path / "results.json",
        plot=tmp_path / "plot.png",
    )
    research.render_missing(settings)
    for name in settings.curricula:  # here, where `main` would start a process for each
        research.train(settings, name, seed=0)
    there = {path: path.stat().st_mtime_ns for path in settings.runs.rglob("*")}
    research.main(settings)
    assert {path: path.stat().st_mtime_ns for path in settings.runs.rglob("*")} == there

    results = json.loads(settings.out.read_text())
    assert [runs[0]["steps"] for runs in results["runs"].values()] == [1024, 1024]
    mean, low, high = results["table"]["random"]["dual"]["f1"]
    assert 0 <= low <= mean <= high <= 1
    assert "gain_on_mixed" in results["table"]["random"]
    curves = results["curves"]
    assert curves["mixed only"]["played_mixed"] == [[1.0, 1.0]]
    shares = [curves["random"][f"played_{stage}"][0][0] for stage in STAGES]
    assert sum(shares) == pytest.approx(1, abs=0.002) and min(shares) > 0.25
    assert settings.plot.stat().st_size > 1000

    # The state that lies beside the model has counted every answer, and goes on.
    state = json.loads((settings.runs / "random" / "seed0" / "curriculum.json").read_text())
    curriculum = research.CURRICULA["random"](settings, 0)
    curriculum.load_state_dict(state)
    assert curriculum.episodes == 1024


def test_every_curriculum_of_the_experiment_may_end_on_mixed_pairs(research):
    for name, make in research.CURRICULA.items():
        assert make(research.Settings(), 0).stages[-1] == "mixed", name
