"""When a curriculum changes its stage."""

import functools
import itertools
import json
import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dig_env.curriculum import Curriculum


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


def test_stage_names_mean_nothing_to_it():
    assert trace(Curriculum(stages=("b", "a"), window=1), [1.0, 1.0]) == ["a", "a"]


REWARDS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=40)


@given(REWARDS, REWARDS, st.integers(1, 5))
def test_a_saved_curriculum_goes_on_as_if_never_stopped(before, after, window):
    settings = {"promote_at": 0.6, "demote_below": 0.3, "window": window}
    curriculum = Curriculum(**settings)
    trace(curriculum, before)
    restored = Curriculum(**settings)
    restored.load_state_dict(json.loads(json.dumps(curriculum.state_dict())))
    assert trace(restored, after) == trace(curriculum, after)
    assert restored.state_dict() == curriculum.state_dict()
    assert restored.history == curriculum.history


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


def test_a_state_of_other_stages_is_refused_and_changes_nothing():
    curriculum = Curriculum(window=4)
    curriculum.update(0.5)
    before = curriculum.state_dict()
    with pytest.raises(ValueError, match=r"'easy', 'hard'.*'single', 'dual', 'mixed'"):
        curriculum.load_state_dict(Curriculum(stages=("easy", "hard")).state_dict())
    assert curriculum.state_dict() == before


@given(REWARDS, st.integers(1, 5))
def test_between_two_changes_lies_at_least_a_window(rewards, window):
    curriculum = Curriculum(window=window, promote_at=0.6, demote_below=0.3)
    trace(curriculum, rewards)
    at = [0, *(episode for episode, _, _ in curriculum.history)]
    assert all(later - earlier >= window for earlier, later in itertools.pairwise(at))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_raises_and_is_not_counted(reward):
    curriculum = Curriculum()
    with pytest.raises(ValueError, match="finite"):
        curriculum.update(reward)
    assert curriculum.episodes == 0
    assert curriculum.mean is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"stages": ()}, "stages is"),
        ({"stages": "single"}, "stages is 'single'"),
        ({"stages": ("single", "single")}, "different names"),
        ({"window": 0}, "window is 0"),
        ({"window": 2.5}, "window is 2.5"),
        ({"promote_at": math.nan}, "promote_at is nan"),
        ({"demote_below": 0.7}, "demote_below is 0.7.*less than promote_at, 0.7"),
        ({"demote_below": math.nan}, "demote_below is nan"),
        ({"demote_below": -math.inf}, "demote_below is -inf"),
    ],
)
def test_settings_out_of_range_raise(setting, message):
    with pytest.raises(ValueError, match=message):
        Curriculum(**setting)
