"""What a GRPO step is made of: groups on one pair, one reward, a stream under the curriculum."""

import json
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from dig_env import Curriculum, RandomCurriculum, RewardConfig, score
from dig_env.agents import GRPORun
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.envs.pairs import FreshPairs, StoredPairs
from dig_env.scenes import RenderSettings, render_dataset

TINY = RenderSettings(width=64, height=48, quality="draft", device="cpu")
RUN = GRPORun(pairs_per_step=4, rollouts=4, window=4, promote_at=0.01, workers=1)


def completions(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_reward_is_the_games_score_and_the_curriculum_counts_pairs():
    curriculum = Curriculum(promote_at=0.6, window=2)
    logged = {}
    reward = GroupReward(curriculum, RewardConfig(format_weight=0.2), rollouts=2)
    one, other = [[0.1, 0.1, 0.3, 0.3]], [[0.5, 0.5, 0.9, 0.9]]
    texts = [
        "[[100, 100, 300, 300]]",
        "[[100, 100, 300, 200]]",
        "nothing",
        "[[500, 500, 900, 900]]",
    ]
    rewards = reward(
        completions=completions(*texts),
        truth=[one, one, other, other],
        stage=["single"] * 4,
        pair_seed=[7, 7, 8, 8],
        log_metric=logged.__setitem__,
        prompts=None,
    )
    config = RewardConfig(format_weight=0.2)
    expected = [
        score(text, truth, config).total
        for text, truth in zip(texts, [one, one, other, other], strict=True)
    ]
    assert rewards == expected
    assert reward.means["reward"] == np.mean(expected)
    # Two pairs are two episodes, with the mean of their rollouts: 0.865 and 0.5 make 0.68.
    assert curriculum.episodes == 2 and curriculum.stage == "dual"
    assert logged["dig/format"] == 0.75 and logged["dig/zero_variance_groups"] == 0.0


def test_pairs_of_an_earlier_stage_are_not_counted():
    curriculum = Curriculum(stages=("single", "dual"), promote_at=0.5, window=1)
    reward = GroupReward(curriculum, RewardConfig(), rollouts=1)
    truth = [[0.1, 0.1, 0.3, 0.3]]
    reward(
        completions=completions(*["[[100, 100, 300, 300]]"] * 3),
        truth=[truth] * 3,
        stage=["single"] * 3,
        pair_seed=[1, 2, 3],
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
        "truth": [[[0.1, 0.1, 0.4, 0.4]]] * 4,
        "stage": ["single"] * 4,
        "pair_seed": [1, 1, 2, 2],
        "log_metric": lambda name, value: None,
    }
    std = 0.05 / 2**0.5
    for least, expected in ((0.0, False), (std - 1e-6, False), (std + 1e-6, True)):
        reward = GroupReward(Curriculum(), RewardConfig(), 2, min_group_std=least)
        assert reward(**columns) == pytest.approx([0.1, 0.15, 0.1, 1.0])
        assert reward.zero_variance == [expected, False]


@pytest.mark.parametrize("rollouts", [2, 8, 16, 64])
def test_a_group_whose_rewards_are_equal_has_zero_variance(rollouts):
    """However many there are: 0.1 for the format alone is no round number in float32."""
    logged = {}
    reward = GroupReward(Curriculum(), RewardConfig(), rollouts)
    true = "[[100, 100, 300, 300]]"
    equal, mixed = ["[[600, 600, 900, 900]]"] * rollouts, [true] + ["c"] * (rollouts - 1)
    rewards = reward(
        completions=completions(*equal, *mixed),
        truth=[[[0.1, 0.1, 0.3, 0.3]]] * (2 * rollouts),
        stage=["single"] * (2 * rollouts),
        pair_seed=[1] * rollouts + [2] * rollouts,
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
    assert all(len(row["truth"]) == 2 for row in later if row["stage"] == "dual")
    assert all(row["pair_seed"] < 2**48 for row in first + later)
    assert np.asarray(first[0]["images"][0]).shape == (48, 64, 3)


def test_equal_seeds_stream_equal_pairs(fresh):
    seeds = [
        [row["pair_seed"] for row in take(PairStream(fresh, Curriculum(), run).rows(), 3)]
        for run in (replace(RUN, seed=seed) for seed in (1, 1, 2))
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_the_pairs_of_the_latest_rows_are_kept_for_pictures_though_drawn_before(tmp_path):
    """Of six stored pairs, drawn again and again, the four that were drawn last."""
    render_dataset(tmp_path, {"single": 6}, "train", TINY, workers=1)
    run = replace(RUN, pairs_per_step=1)
    with closing(StoredPairs(tmp_path, "train")) as source:
        stream = PairStream(source, Curriculum(), run)
        drawn = []
        for row in islice(stream.rows(), 200):
            drawn.append(row["pair_seed"])
            assert set(drawn[-4:]) <= stream.latest.keys()
            assert len(stream.latest) <= 4


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
    made = [[bool(row["truth"]) for row in share] for share in shares]
    assert made == [[True, True, False, False] * 2, [False, False, True, True] * 2]
