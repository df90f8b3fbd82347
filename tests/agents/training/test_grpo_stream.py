"""What a GRPO step is made of: groups on one pair, one reward, a stream under the curriculum."""

import json
from dataclasses import replace

import numpy as np
import pytest
from questions import box_question

from dig_env import Curriculum, RandomCurriculum, RewardConfig, format_boxes, score
from dig_env.agents import GRPORun
from dig_env.agents.evaluation.asked import AskedPair
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.envs.pairs import FreshPairs
from dig_env.scenes import RenderSettings

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")
RUN = GRPORun(pairs_per_step=4, rollouts=4, window=4, promote_at=0.01, workers=1)


def completions(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_reward_is_the_games_score_and_the_curriculum_counts_pairs(pairs):
    curriculum, config = Curriculum(promote_at=0.55, window=2), RewardConfig(format_weight=0.2)
    logged = {}
    reward = GroupReward(curriculum, rollouts=2)
    one, other = pairs["single"][:2]
    right = [format_boxes(pair.boxes_unit, exact=True) for pair in (one, other)]
    texts = [right[0], "[[0, 0, 1, 1]]", "nothing", right[1]]
    asked = [AskedPair(pair, config) for pair in (one, one, other, other)]
    rewards = reward(
        completions=completions(*texts),
        asked=asked,
        stage=["single"] * 4,
        log_metric=logged.__setitem__,
        prompts=None,
    )
    expected = [
        score(text, of.pair.boxes_unit, config).total for text, of in zip(texts, asked, strict=True)
    ]
    assert rewards == expected
    assert reward.means["reward"] == np.mean(expected)
    # Two pairs are two episodes, with the mean of their rollouts: 0.6 and 0.5 make 0.55.
    assert curriculum.episodes == 2 and curriculum.stage == "dual"
    assert logged["dig/format"] == 0.75 and logged["dig/zero_variance_groups"] == 0.0


def test_each_stage_of_a_batch_has_its_own_means(pairs):
    pair, logged = pairs["single"][0], {}
    reward = GroupReward(RandomCurriculum(("single", "crop_to_box")), rollouts=2)
    right = format_boxes(pair.boxes_unit, exact=True)
    rewards = reward(
        completions=completions(right, "nothing", "[[100, 100, 400, 400]]", "nothing"),
        asked=[AskedPair(pair, "f1")] * 2 + [box_question([0.1, 0.1, 0.4, 0.4])] * 2,
        stage=["single"] * 2 + ["crop_to_box"] * 2,
        log_metric=logged.__setitem__,
    )
    assert rewards == pytest.approx([1, 0, 1, 0])
    assert reward.stages["single"]["f1"] == reward.means["f1"] == 0.5
    assert reward.stages["crop_to_box"] == pytest.approx(
        {"reward": 0.5, "accuracy": 0.5, "unread": 0.5, "iou": 0.5}
    )
    assert logged["dig/iou"] == logged["dig/iou/single"]
    assert logged["dig/accuracy/crop_to_box"] == 0.5


def test_pairs_of_an_earlier_stage_are_not_counted():
    curriculum = Curriculum(stages=("single", "dual"), promote_at=0.5, window=1)
    reward = GroupReward(curriculum, rollouts=1)
    reward(
        completions=completions(*["[[100, 100, 300, 300]]"] * 3),
        asked=[box_question([0.1, 0.1, 0.3, 0.3])] * 3,
        stage=["single"] * 3,
        log_metric=lambda name, value: None,
    )
    assert curriculum.stage == "dual"
    assert curriculum.episodes == 1


def test_a_group_whose_rewards_hardly_differ_counts_as_one_without_variance():
    """By hand: the rewards are 0.1 + 0.45 IoU, so 0.1 and 0.1 + 0.45 / 9, and their standard
    deviation over rollouts - 1 is 0.05 / sqrt(2)."""
    none, ninth = "[[600, 600, 900, 900]]", "[[100, 100, 200, 200]]"
    columns = {
        "completions": completions(none, ninth, none, "[[100, 100, 400, 400]]"),
        "asked": [box_question([0.1, 0.1, 0.4, 0.4])] * 4,
        "stage": ["crop_to_box"] * 4,
        "log_metric": lambda name, value: None,
    }
    std = 0.05 / 2**0.5
    for least, expected in ((0.0, False), (std - 1e-6, False), (std + 1e-6, True)):
        reward = GroupReward(Curriculum(), 2, min_group_std=least)
        assert reward(**columns) == pytest.approx([0.1, 0.15, 0.1, 1.0])
        assert reward.zero_variance == [expected, False]


@pytest.mark.parametrize("rollouts", [2, 8, 16, 64])
def test_a_group_whose_rewards_are_equal_has_zero_variance(rollouts):
    """However many there are: 0.1 for the format alone is no round number in float32."""
    logged = {}
    reward = GroupReward(Curriculum(), rollouts)
    true = "[[100, 100, 300, 300]]"
    equal, mixed = ["[[600, 600, 900, 900]]"] * rollouts, [true] + ["c"] * (rollouts - 1)
    rewards = reward(
        completions=completions(*equal, *mixed),
        asked=[box_question([0.1, 0.1, 0.3, 0.3])] * (2 * rollouts),
        stage=["crop_to_box"] * (2 * rollouts),
        log_metric=logged.__setitem__,
    )
    assert rewards[:rollouts] == [0.1] * rollouts
    assert reward.zero_variance == [True, False]
    assert logged["dig/zero_variance_groups"] == 0.5


@pytest.fixture(scope="module")
def fresh():
    source = FreshPairs(TINY, "train", workers=1)
    yield source
    source.close()


def take(rows, count):
    return [next(rows) for _ in range(count)]


def test_the_stream_plans_at_the_curriculums_stage_and_only_on_training_seeds(fresh):
    curriculum = Curriculum(promote_at=0.5, window=1)
    rows = PairStream(fresh, curriculum, RUN).rows()
    first = take(rows, 4)
    curriculum.update(1.0)
    later = take(rows, 9)
    assert {row["stage"] for row in first} == {"single"}
    # What was planned ahead is still of the old stage, at most one step of it.
    assert [row["stage"] for row in later][4:] == ["dual"] * 5
    assert all(len(row["asked"].pair.boxes_unit) == 2 for row in later if row["stage"] == "dual")
    assert all(row["pair_seed"] < 2**48 for row in first + later)
    assert np.asarray(first[0]["images"][0]).shape == (48, 64, 3)


def test_equal_seeds_stream_equal_pairs(fresh):
    seeds = [
        [row["pair_seed"] for row in take(PairStream(fresh, Curriculum(), run).rows(), 3)]
        for run in (replace(RUN, seed=seed) for seed in (1, 1, 2))
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_stream_that_is_loaded_hands_out_the_rows_that_were_not_learned(fresh):
    curriculum = Curriculum(promote_at=0.5, window=1)
    stream = PairStream(fresh, curriculum, RUN)
    rows = stream.rows()
    take(rows, 8)  # two steps are read, and one is learned
    stream.learned(4)
    state = json.loads(json.dumps(stream.state_dict()))
    curriculum.update(1.0)
    expected = [(row["pair_seed"], row["stage"]) for row in take(rows, 6)]

    again = PairStream(fresh, curriculum, RUN)
    again.load_state_dict(state)
    loaded = take(again.rows(), 10)
    assert [(row["pair_seed"], row["stage"]) for row in loaded][4:] == expected
    assert {stage for _, stage in expected} == {"single", "dual"}


def test_a_loaded_stream_keeps_the_stages_that_were_drawn_and_draws_on(fresh):
    run = RUN
    curriculum = RandomCurriculum(seed=1)
    stream = PairStream(fresh, curriculum, run)
    rows = stream.rows()
    first = take(rows, 8)
    stream.learned(4)
    states = json.loads(json.dumps([curriculum.state_dict(), stream.state_dict()]))
    expected = [row["stage"] for row in first[4:] + take(rows, 16)]

    curriculum, alike = (RandomCurriculum(seed=1) for _ in range(2))
    curriculum.load_state_dict(states[0])
    again = PairStream(fresh, curriculum, run)
    again.load_state_dict(states[1])
    assert [row["stage"] for row in take(again.rows(), 20)] == expected
    drawn = [alike.choose() for _ in range(24)]
    assert [row["stage"] for row in first[:4]] + expected == drawn


def test_of_several_processes_each_asks_for_the_pairs_of_its_own_share(fresh):
    """Four pairs of four rollouts: two of each to each of two processes."""
    shares = [take(PairStream(fresh, Curriculum(), RUN, (rank, 2)).rows(), 8) for rank in (0, 1)]
    seeds, other = ([row["pair_seed"] for row in share] for share in shares)
    assert seeds == other
    made = [[row["asked"] is not None for row in share] for share in shares]
    assert made == [[True, True, False, False] * 2, [False, False, True, True] * 2]
