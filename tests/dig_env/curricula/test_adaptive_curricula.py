"""What the curricula that follow the reward choose, and that the threshold one does not waver."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig_env.curricula.adaptive import AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay
from dig_env.curricula.threshold import Curriculum, StageCurriculum

STAGES = ("single", "dual", "mixed")
KINDS = pytest.mark.parametrize(
    "kind", [AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay]
)
# Multiples of 1/8: sums and means of powers of two of them are exact.
REWARD = st.integers(0, 8).map(lambda eighths: eighths / 8)
REWARDS = st.lists(REWARD, max_size=60)
EPISODES = st.lists(st.tuples(REWARD, st.sampled_from(STAGES)), max_size=60)
CALLS = st.lists(
    st.just("choose") | st.tuples(REWARD, st.sampled_from([None, *STAGES])), max_size=60
)


def told(curriculum: StageCurriculum, rewards: list[float], stage: str) -> StageCurriculum:
    """The curriculum, after it was told of episodes of one stage."""
    for reward in rewards:
        curriculum.update(reward, stage)
    return curriculum


def played(curriculum: StageCurriculum, calls: list) -> list:
    """What each call of choose or update returns, with the probabilities and the mean after it."""
    return [
        (
            curriculum.choose() if call == "choose" else curriculum.update(*call),
            curriculum.probabilities,
            curriculum.mean,
        )
        for call in calls
    ]


def latest(rewards: list[float], window: int) -> list[float]:
    return rewards[-window:]


# The threshold curriculum


@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 64), st.data())
def test_rewards_that_stay_within_less_than_the_gap_never_move_it_both_ways(
    window, noise, level, data
):
    """The gap between the thresholds is 8/64; rewards stay within ``noise`` of a level."""
    curriculum = Curriculum(promote_at=36 / 64, demote_below=28 / 64, window=window)
    around = st.integers(level - noise, level + noise).map(lambda n: n / 64)
    rewards = data.draw(st.lists(around, max_size=80))
    told(curriculum, rewards, None)
    ups = {STAGES.index(entered) > STAGES.index(left) for _, left, entered in curriculum.history}
    assert len(ups) <= 1


@given(st.lists(st.integers(0, 64).map(lambda n: n / 64), max_size=120), st.integers(1, 6))
def test_a_change_back_takes_a_full_window_of_its_own_on_the_other_side(rewards, window):
    curriculum = Curriculum(promote_at=0.75, demote_below=0.25, window=window)
    told(curriculum, rewards, None)
    changes = [(0, None, "single"), *curriculum.history]
    for (before, _, _), (at, left, entered) in itertools.pairwise(changes):
        assert at - before >= window
        mean = math.fsum(rewards[at - window : at]) / window
        if STAGES.index(entered) > STAGES.index(left):
            assert mean >= 0.75
        else:
            assert mean < 0.25


# Adaptive difficulty


@given(REWARDS, st.integers(1, 9))
def test_the_target_moves_after_every_window_by_the_formula(rewards, window):
    curriculum = AdaptiveDifficulty(
        STAGES, (1.0, 2.0, 5.0), step=0.75, sensitivity=3.0, target_reward=0.6, window=window
    )
    target = 1.0
    for count, reward in enumerate(rewards, start=1):
        curriculum.update(reward)
        if count % window == 0:
            mean = np.mean(latest(rewards[:count], window))
            target = float(np.clip(target + 0.75 * np.tanh(3.0 * (mean - 0.6)), 1.0, 5.0))
        assert curriculum.target == pytest.approx(target, abs=1e-12)


@given(REWARDS)
def test_the_mean_difficulty_of_the_draws_is_the_target(rewards):
    curriculum = told(
        AdaptiveDifficulty(STAGES, (1.0, 2.0, 5.0), step=2.0, window=3), rewards, None
    )
    drawn = curriculum.probabilities
    assert sum(drawn) == pytest.approx(1.0)
    assert np.dot(drawn, curriculum.difficulties) == pytest.approx(curriculum.target)
    positive = [index for index, share in enumerate(drawn) if share > 0]
    assert positive[-1] - positive[0] <= 1


def test_the_target_begins_at_the_first_stage_and_stops_at_the_last():
    curriculum = AdaptiveDifficulty(window=4)
    assert {curriculum.choose() for _ in range(50)} == {"single"}
    told(curriculum, [1.0] * 400, None)
    assert curriculum.target == 2.0
    assert {curriculum.choose() for _ in range(50)} == {"mixed"}


def test_the_target_rewards_mean_leaves_the_target_difficulty_where_it_is():
    curriculum = told(AdaptiveDifficulty(target_reward=0.75, window=2), [1.0, 1.0], None)
    before = curriculum.target
    assert told(curriculum, [0.5, 1.0, 0.75, 0.75], None).target == before > 0.0


def test_the_window_counts_episodes_of_all_stages():
    curriculum = AdaptiveDifficulty(window=2)
    curriculum.update(1.0, "single")
    assert curriculum.target == 0.0
    curriculum.update(1.0, "mixed")
    assert curriculum.target == pytest.approx(0.25 * math.tanh(1.0))


def test_a_target_is_clipped_to_the_difficulties_it_is_loaded_into():
    far = told(AdaptiveDifficulty(window=1), [1.0] * 40, None)
    near = AdaptiveDifficulty(difficulties=(0.0, 0.5, 1.0), window=1)
    near.load_state_dict(far.state_dict())
    assert (far.target, near.target) == (2.0, 1.0)


def test_with_a_larger_window_than_the_states_the_target_waits_until_it_is_full():
    curriculum = AdaptiveDifficulty(window=4)
    curriculum.load_state_dict(told(AdaptiveDifficulty(window=2), [1.0] * 3, None).state_dict())
    before = curriculum.target
    assert told(curriculum, [1.0], None).target == before  # after 4 episodes, of which 3 are known
    assert told(curriculum, [1.0] * 4, None).target > before


# Learning progress and prioritized replay of stages


WINDOWED = pytest.mark.parametrize("kind", [LearningProgress, PrioritizedStageReplay])


@WINDOWED
@given(episodes=EPISODES, window=st.integers(2, 8))
def test_a_stage_without_a_full_window_keeps_its_equal_share(kind, episodes, window):
    curriculum = kind(window=window)
    counts = Counter()
    for reward, stage in episodes:
        curriculum.update(reward, stage)
        counts[stage] += 1
        drawn = dict(zip(STAGES, curriculum.probabilities, strict=True))
        assert sum(drawn.values()) == pytest.approx(1.0)
        for name in STAGES:
            assert drawn[name] > 0.0
            if counts[name] < window:
                assert drawn[name] == pytest.approx(1 / 3)


@given(st.lists(REWARD, min_size=4, max_size=20), st.lists(REWARD, min_size=4, max_size=20))
def test_learning_progress_is_the_difference_of_the_windows_halves(first, second):
    curriculum = LearningProgress(("a", "b"), explore=0.25, window=4)
    told(told(curriculum, first, "a"), second, "b")
    progress = [
        abs(np.mean(latest(rewards, 2)) - np.mean(latest(rewards, 4)[:2]))
        for rewards in (first, second)
    ]
    share = progress[0] / sum(progress) if any(progress) else 0.5
    assert curriculum.probabilities == pytest.approx(
        (0.75 * share + 0.125, 0.75 * (1 - share) + 0.125)
    )


def test_getting_worse_is_progress_too_and_standing_still_at_any_reward_is_none():
    curriculum = LearningProgress(window=4, explore=0.3)
    told(curriculum, [1.0] * 4, "single")
    told(curriculum, [0.75, 0.75, 0.25, 0.25], "dual")
    told(curriculum, [0.0] * 4, "mixed")
    assert curriculum.probabilities == pytest.approx((0.1, 0.8, 0.1))


def test_the_stage_whose_rewards_are_the_least_settled_is_replayed_most():
    curriculum = PrioritizedStageReplay(window=4, temperature=0.5, staleness=0.25)
    told(curriculum, [1.0] * 4, "single")
    told(curriculum, [0.0, 1.0, 0.0, 1.0], "dual")
    told(curriculum, [0.25, 0.5, 0.25, 0.5], "mixed")
    by_score = np.array([1 / 9, 1, 1 / 4]) / (1 / 9 + 1 + 1 / 4)
    assert curriculum.probabilities == pytest.approx(by_score)  # nothing was drawn yet
    chosen = [curriculum.choose() for _ in range(7)]
    ages = np.array([chosen[::-1].index(name) if name in chosen else 7 for name in STAGES])
    expected = 0.75 * by_score + 0.25 * ages / ages.sum()
    assert curriculum.probabilities == pytest.approx(expected)


def test_a_score_is_the_mean_of_absolute_deviations_not_their_square():
    """Of (0, 0, 0, 1) and (0.1, 0.1, 0.9, 0.9), the second has the larger one: 0.4, not 0.375."""
    curriculum = PrioritizedStageReplay(("a", "b"), window=4)
    told(told(curriculum, [0.0, 0.0, 0.0, 1.0], "a"), [0.1, 0.1, 0.9, 0.9], "b")
    assert curriculum.probabilities == pytest.approx((0.2, 0.8))


@given(st.floats(0.05, 5.0), st.lists(REWARD, min_size=3, max_size=3))
def test_stages_of_equal_scores_are_replayed_alike(temperature, rewards):
    curriculum = PrioritizedStageReplay(STAGES, temperature, window=3)
    told(told(curriculum, rewards, "single"), rewards, "mixed")
    told(curriculum, [0.5, 0.5, 0.5], "dual")
    single, dual, mixed = curriculum.probabilities
    assert single == mixed and (single > dual or len(set(rewards)) == 1)
    if len(set(rewards)) == 1:
        assert curriculum.probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))


# What all three share


@KINDS
@given(before=CALLS, after=CALLS, window=st.integers(2, 6))
def test_a_saved_curriculum_resumes_as_if_never_stopped(kind, before, after, window):
    curriculum = kind(window=window, seed=7)
    played(curriculum, before)
    restored = kind(window=window, seed=8)
    restored.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
    assert played(restored, after) == played(curriculum, after)
    assert restored.state_dict() == curriculum.state_dict()
    assert curriculum.history == []


@KINDS
@given(calls=CALLS, seed=st.integers(0, 9))
def test_processes_that_make_equal_calls_agree(kind, calls, seed):
    one, other = kind(seed=seed, window=4), kind(seed=seed, window=4)
    assert played(one, calls) == played(other, calls)


@KINDS
def test_draws_are_apart_from_those_of_a_generator_of_the_same_seed(kind):
    """As of pair seeds: else every stage would get pairs of its own part of the seeds."""
    curriculum, pairs = kind(seed=5, window=2), np.random.default_rng(5)
    told(curriculum, [1.0] * 6, "single")
    drawn = [(STAGES.index(curriculum.choose()), pairs.random()) for _ in range(2000)]
    assert abs(np.corrcoef(np.array(drawn).T)[0, 1]) < 4 / math.sqrt(2000)


@KINDS
def test_stages_are_drawn_with_the_probabilities(kind):
    """3,000 draws, each of its own probability p: variance p (1 - p)."""
    curriculum = kind(window=4)
    for stage, rewards in zip(
        STAGES, ([0, 0, 1, 1], [1, 1, 1, 1], [0, 0.5, 0.5, 0.5]), strict=True
    ):
        told(curriculum, rewards, stage)
    expected, variance, counts = np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(3000):
        drawn = np.array(curriculum.probabilities)
        expected += drawn
        variance += drawn * (1 - drawn)
        counts[STAGES.index(curriculum.choose())] += 1
    assert (np.abs(counts - expected) <= 4 * np.sqrt(variance)).all()


@KINDS
def test_the_seed_decides_the_draws(kind):
    def drawn(seed: int) -> list[str]:
        curriculum = kind(seed=seed, window=1) if kind is not LearningProgress else kind(seed=seed)
        curriculum.update(0.75)
        return [curriculum.choose() for _ in range(60)]

    assert drawn(1) == drawn(1) != drawn(2)


@KINDS
def test_an_episode_of_a_foreign_stage_is_not_counted(kind):
    curriculum = kind(window=2)
    before = json.dumps(curriculum.state_dict())
    assert curriculum.update(1.0, "custom") is None
    assert json.dumps(curriculum.state_dict()) == before


@KINDS
@pytest.mark.parametrize("stage", [None, "mixed", "custom"])
@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_raises_and_is_not_counted(kind, stage, reward):
    curriculum = kind()
    with pytest.raises(ValueError, match="reward=.*finite"):
        curriculum.update(reward, stage)
    assert curriculum.episodes == 0 and curriculum.mean is None


@KINDS
def test_a_state_of_another_kind_or_of_other_stages_is_refused_and_changes_nothing(kind):
    curriculum = kind(window=4)
    curriculum.choose()
    curriculum.update(0.5)
    before = json.dumps(curriculum.state_dict())
    with pytest.raises(ValueError, match=f"of a threshold curriculum, this is a {kind.kind} one"):
        curriculum.load_state_dict(Curriculum().state_dict())
    state = curriculum.state_dict() | {"stages": ["easy", "hard"], "stage": "hard"}
    with pytest.raises(ValueError, match=r"'easy', 'hard'.*'single', 'dual', 'mixed'"):
        curriculum.load_state_dict(state)
    assert json.dumps(curriculum.state_dict()) == before


@WINDOWED
def test_a_smaller_window_keeps_the_latest_rewards_of_a_state(kind):
    whole = told(told(kind(window=8), [0.0, 0.0, 0.0, 1.0] * 2, "single"), [0.5] * 2, "dual")
    smaller = kind(window=2)
    smaller.load_state_dict(whole.state_dict())
    told_alike = told(told(kind(window=2), [0.0, 1.0], "single"), [0.5] * 2, "dual")
    assert smaller.probabilities == told_alike.probabilities


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (AdaptiveDifficulty, {"difficulties": (0, 1)}, r"\(0, 1\): for 3 stages"),
        (AdaptiveDifficulty, {"difficulties": (0, 2, 1)}, "more than the one before"),
        (AdaptiveDifficulty, {"difficulties": (0, 1, math.inf)}, "finite"),
        (AdaptiveDifficulty, {"step": 0}, "step=0: give a finite number above 0"),
        (AdaptiveDifficulty, {"sensitivity": -1}, "sensitivity=-1"),
        (AdaptiveDifficulty, {"target_reward": math.nan}, "target_reward=nan"),
        (LearningProgress, {"explore": 0}, "explore=0: give a number above 0, up to 1"),
        (LearningProgress, {"explore": 1.5}, "explore=1.5"),
        (LearningProgress, {"window": 1}, "window=1: give 2 or more"),
        (PrioritizedStageReplay, {"temperature": 0}, "temperature=0"),
        (PrioritizedStageReplay, {"staleness": 1.01}, "staleness=1.01"),
        (PrioritizedStageReplay, {"staleness": 0}, "staleness=0"),
        *[
            (kind, setting, message)
            for kind in (AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay)
            for setting, message in (
                ({"stages": ()}, "stages="),
                ({"stages": ("single", "single")}, "different names"),
                ({"window": 0}, "window=0"),
                ({"seed": None}, "seed=None"),
                ({"seed": -1}, "seed=-1"),
            )
        ],
    ],
)
def test_settings_out_of_range_raise(kind, setting, message):
    with pytest.raises(ValueError, match=message):
        kind(**setting)
