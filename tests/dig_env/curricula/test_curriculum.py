"""Which stage a curriculum chooses, and when it changes."""

import functools
import itertools
import json
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dig_env.curricula.schedules import EasyToHard, RandomCurriculum, ScheduledCurriculum
from dig_env.curricula.threshold import Curriculum, StageCurriculum


def trace(curriculum: Curriculum, rewards: list[float]) -> list[str]:
    """Return the stage after each of the rewards."""
    stages = []
    for reward in rewards:
        curriculum.update(reward)
        stages.append(curriculum.stage)
    return stages


def test_it_begins_at_the_first_stage_with_an_empty_window():
    curriculum = Curriculum()
    assert curriculum.stages == ("single", "dual", "mixed")
    assert curriculum.stage == "single"
    assert curriculum.mean is None
    assert curriculum.history == []


def test_nothing_is_decided_before_the_window_is_full():
    assert trace(Curriculum(window=4), [1.0, 1.0, 1.0, 1.0]) == ["single"] * 3 + ["dual"]


def test_the_window_is_cleared_at_a_change_so_two_promotions_take_two_windows():
    assert trace(Curriculum(window=2), [1.0] * 4) == ["single", "dual", "dual", "mixed"]


def test_a_full_window_slides():
    # Means of the last three: 0.4, 0.6, 0.8. Only the third reaches 0.7.
    curriculum = Curriculum(window=3)
    assert trace(curriculum, [0.0, 0.6, 0.6, 0.6]) == ["single"] * 4
    assert curriculum.update(1.2) == "dual"


def test_a_mean_of_exactly_the_threshold_promotes():
    """Also where adding up comes out below: 0.1 ten times is 0.9999999999999999."""
    assert functools.reduce(operator.add, [0.1] * 10) / 10 < 0.1
    assert trace(Curriculum(window=10, promote_at=0.1), [0.1] * 10)[-1] == "dual"


def test_update_tells_the_stage_entered_and_else_nothing():
    curriculum = Curriculum(window=1, demote_below=0.2)
    assert [curriculum.update(r) for r in (0.5, 0.9, 0.5, 0.1)] == [None, "dual", None, "single"]


def test_without_demotion_a_stage_is_never_left_downwards():
    assert trace(Curriculum(window=1), [1.0, 0.0, 0.0]) == ["dual"] * 3


def test_demotion_needs_a_full_window_strictly_below_its_threshold():
    curriculum = Curriculum(window=2, promote_at=0.75, demote_below=0.25)
    rewards = [1.0, 1.0, 0.25, 0.25, 0.0, 0.5, 0.5, 1.0]
    #   single: (1, 1) promotes. dual: (.25, .25) is not below; (.25, 0) is: down.
    #   single: (.5, .5) neither; (.5, 1) is exactly 0.75: up again.
    down_and_up = ["single", "dual", "dual", "dual", "single", "single", "single", "dual"]
    assert trace(curriculum, rewards) == down_and_up


def test_it_never_goes_below_the_first_or_above_the_last_stage():
    curriculum = Curriculum(window=1, demote_below=0.5)
    assert trace(curriculum, [0.0, 0.0]) == ["single", "single"]
    assert trace(curriculum, [1.0] * 4) == ["dual", "mixed", "mixed", "mixed"]
    assert trace(curriculum, [0.0] * 4) == ["dual", "single", "single", "single"]


def test_the_mean_is_that_of_the_present_window():
    curriculum = Curriculum(window=2)
    curriculum.update(0.2)
    assert curriculum.mean == pytest.approx(0.2)
    curriculum.update(0.4)
    assert curriculum.mean == pytest.approx(0.3)
    curriculum.update(0.6)
    assert curriculum.mean == pytest.approx(0.5)
    curriculum.update(1.0)
    assert curriculum.mean is None  # cleared by the promotion


def test_the_history_lists_every_change_with_the_episodes_counted_by_then():
    curriculum = Curriculum(window=2, demote_below=0.1)
    trace(curriculum, [0.5, 1.0, 0.0, 0.0, 1.0])
    assert curriculum.history == [(2, "single", "dual"), (4, "dual", "single")]
    assert curriculum.episodes == 5


def test_it_chooses_the_present_stage():
    curriculum = Curriculum(window=1)
    assert [curriculum.choose(), curriculum.choose()] == ["single", "single"]
    curriculum.update(1.0)
    assert curriculum.choose() == "dual"


def test_an_episode_of_another_stage_is_not_counted():
    curriculum = Curriculum(window=2)
    assert [curriculum.update(1.0, stage) for stage in ("dual", "single", "dual")] == [None] * 3
    assert curriculum.episodes == 1 and curriculum.mean == 1.0
    assert curriculum.update(1.0, "single") == "dual"


def test_stage_names_mean_nothing_to_it():
    assert trace(Curriculum(stages=("b", "a"), window=1), [1.0, 1.0]) == ["a", "a"]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.sampled_from([None, "0", "1"]), max_size=30),
)
def test_a_schedule_changes_after_so_many_episodes_of_any_stage(episodes, planned_at):
    curriculum = ScheduledCurriculum([str(i) for i in range(len(episodes) + 1)], episodes)
    for stage in planned_at:
        due = sum(sum(episodes[: i + 1]) <= curriculum.episodes for i in range(len(episodes)))
        assert curriculum.choose() == str(due)
        curriculum.update(0.0, stage)
    assert curriculum.episodes == len(planned_at)


def test_a_schedule_tells_its_changes():
    curriculum = ScheduledCurriculum(("single", "dual", "mixed"), episodes=(2, 1))
    entered = [curriculum.update(reward) for reward in (1.0, 0.0, 0.25, 0.5)]
    assert entered == [None, "dual", "mixed", None]
    assert curriculum.history == [(2, "single", "dual"), (3, "dual", "mixed")]
    assert curriculum.mean == 0.5


def draw(curriculum: StageCurriculum, count: int) -> list[str]:
    """Return the next so many choices, each of which earns something."""
    stages = []
    for episode in range(count):
        stages.append(curriculum.choose())
        curriculum.update(episode % 2, stages[-1])
    return stages


def test_random_stages_are_uniform():
    """3,000 draws: 1,000 expected of each of three stages, with a standard deviation of 26."""
    stages = draw(RandomCurriculum(("a", "b", "c"), seed=0), 3000)
    assert all(abs(stages.count(name) - 1000) < 4 * 26 for name in "abc")


def test_random_stages_depend_on_the_seed_and_on_nothing_that_was_earned():
    seeds = (1, 1, 2)
    first, again, other = (draw(RandomCurriculum(seed=seed), 30) for seed in seeds)
    assert first == again != other
    untold = RandomCurriculum(seed=1)
    assert [untold.choose() for _ in range(30)] == first


def test_random_stages_have_a_mean_and_no_history():
    curriculum = RandomCurriculum(window=2)
    draw(curriculum, 4)
    assert curriculum.mean == 0.5 and curriculum.episodes == 4
    assert curriculum.history == []


@given(st.integers(1, 5), st.floats(0.05, 5), st.floats(0.1, 3), st.integers(0, 60))
def test_easy_stages_fade_out_along_a_bell_that_moves(count, spread, exponent, told):
    names = [str(stage) for stage in range(count)]
    curriculum = EasyToHard(names, 50, exponent, spread)
    for _ in range(told):
        curriculum.update(0.0)
    place = (count - 1) * min(told / 50, 1) ** exponent
    bell = stats.norm(place, spread).pdf(range(count))
    if bell.sum() > 1e-200:
        np.testing.assert_allclose(curriculum.probabilities, bell / bell.sum(), atol=1e-9)
    assert math.isclose(sum(curriculum.probabilities), 1.0)


SETTINGS = {
    Curriculum: {"promote_at": 0.6, "demote_below": 0.3},
    ScheduledCurriculum: {"episodes": (7, 11)},
    RandomCurriculum: {"seed": 3},
    EasyToHard: {"episodes": 30, "seed": 3},
}
KINDS = pytest.mark.parametrize("kind", SETTINGS)
REWARDS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=40)
CALLS = st.lists(
    st.just("choose")
    | st.tuples(
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        st.sampled_from([None, "single", "dual", "mixed"]),
    ),
    max_size=60,
)


def played(curriculum: StageCurriculum, calls: list) -> list:
    """Return what each of the calls of choose and update returns, and the mean after it."""
    return [
        (curriculum.choose() if call == "choose" else curriculum.update(*call), curriculum.mean)
        for call in calls
    ]


@KINDS
@given(before=CALLS, after=CALLS, window=st.integers(1, 5))
def test_a_saved_curriculum_resumes_as_if_never_stopped(kind, before, after, window):
    curriculum = kind(window=window, **SETTINGS[kind])
    played(curriculum, before)
    restored = kind(window=window, **SETTINGS[kind])
    restored.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
    assert played(restored, after) == played(curriculum, after)
    assert restored.state_dict() == curriculum.state_dict()
    assert restored.history == curriculum.history


@KINDS
@pytest.mark.parametrize("other", SETTINGS)
def test_a_state_of_another_kind_is_refused_and_changes_nothing(kind, other):
    curriculum = kind()
    curriculum.choose()
    before = json.dumps(curriculum.state_dict())
    state = other().state_dict()
    if other is kind:
        curriculum.load_state_dict(state)
        return
    message = f"of a {other.kind} curriculum, this is a {kind.kind} one"
    with pytest.raises(ValueError, match=message):
        curriculum.load_state_dict(state)
    assert json.dumps(curriculum.state_dict()) == before


def test_a_saved_state_does_not_change_with_the_curriculum():
    curriculum = Curriculum(window=2)
    state = curriculum.state_dict()
    saved = json.dumps(state)
    trace(curriculum, [1.0, 1.0, 1.0])
    assert json.dumps(state) == saved


def test_a_smaller_window_keeps_the_latest_rewards_of_a_state():
    curriculum = Curriculum(window=8)
    trace(curriculum, [0.0, 0.0, 0.6, 0.8])
    smaller = Curriculum(window=2)
    smaller.load_state_dict(curriculum.state_dict())
    assert smaller.mean == pytest.approx(0.7)


@KINDS
def test_a_state_of_other_stages_is_refused_and_changes_nothing(kind):
    curriculum = kind(window=4)
    curriculum.choose()
    curriculum.update(0.5)
    before = json.dumps(curriculum.state_dict())
    state = curriculum.state_dict() | {"stages": ["easy", "hard"], "stage": "hard"}
    with pytest.raises(ValueError, match=r"'easy', 'hard'.*'single', 'dual', 'mixed'"):
        curriculum.load_state_dict(state)
    assert json.dumps(curriculum.state_dict()) == before


@given(REWARDS, st.integers(1, 5))
def test_between_two_changes_lies_at_least_a_window(rewards, window):
    curriculum = Curriculum(window=window, promote_at=0.6, demote_below=0.3)
    trace(curriculum, rewards)
    at = [0, *(episode for episode, _, _ in curriculum.history)]
    assert all(later - earlier >= window for earlier, later in itertools.pairwise(at))


@KINDS
@pytest.mark.parametrize("stage", [None, "mixed"])
@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_raises_and_is_not_counted(kind, stage, reward):
    curriculum = kind()
    with pytest.raises(ValueError, match="finite"):
        curriculum.update(reward, stage)
    assert curriculum.episodes == 0
    assert curriculum.mean is None


@KINDS
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stages": ()}, "stages="),
        ({"stages": "single"}, "stages='single'"),
        ({"stages": ("single", "single")}, "different names"),
        ({"window": 0}, "window=0"),
        ({"window": 2.5}, "window=2.5"),
    ],
)
def test_stages_and_windows_that_are_none_raise(kind, setting, message):
    with pytest.raises(ValueError, match=message):
        kind(**setting)


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (Curriculum, {"promote_at": math.nan}, "promote_at=nan"),
        (Curriculum, {"demote_below": 0.7}, "demote_below=0.7: .*below promote_at=0.7"),
        (Curriculum, {"demote_below": math.nan}, "demote_below=nan"),
        (Curriculum, {"demote_below": -math.inf}, "demote_below=-inf"),
        (ScheduledCurriculum, {"episodes": (5,)}, r"episodes=\(5,\): for 3 stages give 2"),
        (ScheduledCurriculum, {"episodes": (5, 0)}, r"episodes\[1\]=0"),
        (ScheduledCurriculum, {"episodes": (5, 2.5)}, "whole number"),
        (EasyToHard, {"episodes": 0}, "episodes=0"),
        (EasyToHard, {"exponent": 0}, "exponent=0: give a finite number above 0"),
        (EasyToHard, {"spread": math.nan}, "spread=nan"),
        (RandomCurriculum, {"seed": -1}, "seed=-1"),
        (RandomCurriculum, {"seed": None}, "seed=None"),
    ],
)
def test_settings_out_of_range_raise(kind, setting, message):
    with pytest.raises(ValueError, match=message):
        kind(**setting)
