"""Policies and evaluation: the oracle is the ceiling, chance the floor, and seeds fix the pairs."""

import gymnasium as gym
import numpy as np
import pytest
from small import SMALL, SMALL_ENV

from dig_env.agents import OraclePolicy, PixelDiffPolicy, RandomPolicy, evaluate
from dig_env.agents.cli.eval import named_policy
from dig_env.agents.evaluation.pairs import held_out_pairs, mean_metrics, play_pairs
from dig_env.answers import DIALECTS
from dig_env.scenes import PAPER_STAGES


@pytest.mark.parametrize("stage", PAPER_STAGES)
def test_the_oracle_earns_everything(pairs, stage):
    metrics = mean_metrics(play_pairs(OraclePolicy(), pairs[stage]))
    assert all(value == pytest.approx(1.0) for value in metrics.values())


@pytest.mark.parametrize("stage", PAPER_STAGES)
def test_random_boxes_find_nothing_and_subtracting_pixels_finds_much(pairs, stage):
    chance = mean_metrics(play_pairs(RandomPolicy(), pairs[stage]))
    pixels = mean_metrics(play_pairs(PixelDiffPolicy(), pairs[stage]))
    assert chance["format"] == 1.0 and chance["f1"] < 0.02
    assert 0.5 < pixels["f1"] < 1.0


def test_random_text_scores_nothing(pairs):
    space = gym.spaces.Text(200, seed=0)

    class Babbler:
        def act(self, observations):
            return [space.sample() for _ in observations]

    metrics = mean_metrics(play_pairs(Babbler(), pairs["single"]))
    assert metrics["f1"] == metrics["reward"] == 0.0


def test_the_same_seed_means_the_same_pairs_as_in_the_environment(renderer):
    seeds = [pair.plan.seed for pair in held_out_pairs(renderer, "dual", 3, seed=5)]
    env = gym.make("DiG-v0", stage="dual", split="test", **SMALL_ENV)
    played = [env.reset(seed=5 if episode == 0 else None)[1]["pair_seed"] for episode in range(3)]
    env.close()
    assert seeds == played


def test_evaluate_renders_plays_and_reports():
    seen = []
    report = evaluate(
        OraclePolicy(),
        stage="mixed",
        episodes=3,
        seed=1,
        settings=SMALL,
        batch_size=2,
        on_episode=seen.append,
    )
    assert list(report.episodes) == seen
    assert report.f1 == 1.0 and report.reward == pytest.approx(1.0)
    fields = report.to_json()
    assert fields["episodes"] == 3 and fields["split"] == "test"
    assert set(report.recall_by_change().values()) == {1.0}


def test_recall_by_change_counts_each_difference(pairs):
    class FirstOnly(OraclePolicy):
        """Finds the first difference of each pair and no other."""

        def act(self, observations):
            return [
                answer.split("], [")[0].rstrip("]") + "]]" for answer in super().act(observations)
            ]

    episodes = play_pairs(FirstOnly(), pairs["dual"])
    found = sum(len(episode.found) for episode in episodes)
    assert found == len(episodes)
    assert all(episode.found == {0} for episode in episodes)


def test_an_oracle_that_was_shown_nothing_says_what_to_do(pairs):
    pair = pairs["single"][0]
    observation = {"image_a": pair.image_a, "image_b": pair.image_b, "prompt": ""}
    policy = OraclePolicy()
    with pytest.raises(LookupError, match="reveal"):
        policy.act([observation])
    policy.reveal(pair)
    (answer,) = policy.act([observation])
    assert answer.startswith("[[")


def test_a_policy_that_answers_too_little_is_named(pairs):
    class Silent:
        def act(self, observations):
            return []

    with pytest.raises(ValueError, match="the policy returned 0 answers to 16"):
        play_pairs(Silent(), pairs["single"])


def test_no_episodes_is_an_error():
    with pytest.raises(ValueError, match="episodes=0"):
        evaluate(RandomPolicy(), episodes=0, settings=SMALL)


def test_pixel_differences_need_two_different_images(pairs):
    image = pairs["single"][0].image_a
    (answer,) = PixelDiffPolicy().act([{"image_a": image, "image_b": image.copy(), "prompt": ""}])
    assert answer == "[]"
    assert np.array_equal(image, pairs["single"][0].image_a)


def test_a_named_policy_answers_in_the_frame_that_was_asked_for(pairs):
    pair = pairs["single"][0]
    for name in ("oracle", "pixeldiff", "random"):
        (episode,) = play_pairs(named_policy(name, "pixel"), [pair], coordinates="pixel")
        assert episode.score.format == 1.0
        assert name == "random" or episode.score.f1 == 1.0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_named_policy_answers_in_the_dialect_that_was_asked_for(pairs, dialect):
    pair = pairs["single"][0]
    for name in ("oracle", "pixeldiff", "random"):
        policy = named_policy(name, answers=dialect)
        (episode,) = play_pairs(policy, [pair], answers=dialect)
        assert episode.score.format == 1.0
        assert name == "random" or episode.score.f1 == 1.0
        assert name != "oracle" or episode.score.iou > 0.95


def test_the_embedded_policy_is_not_asked_for_what_it_was_not_taught():
    with pytest.raises(ValueError, match="as 'strict' reads"):
        named_policy("tiny", answers="gemini")
    with pytest.raises(ValueError, match="answers in norm1000"):
        named_policy("tiny", "pixel")
