"""check_policy passes what keeps its rules, and tells what does not which one it breaks."""

import random
import warnings
from collections.abc import Sequence

import numpy as np
import pytest

from dig_env import COORDINATES, observe
from dig_env.agents import OraclePolicy, PixelDiffPolicy, RandomPolicy
from dig_env.agents.policies.mllm import load_tiny
from dig_env.scenes import STAGES, plan_pair
from dig_env.testing import check_policy


@pytest.fixture(autouse=True)
def advice_is_an_error():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*WARN: ")
        yield


# Policies that pass


def test_random_boxes_pass():
    check_policy(RandomPolicy())


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_subtracting_pixels_passes_in_every_frame(coordinates):
    policy = PixelDiffPolicy(coordinates=coordinates)
    check_policy(policy, coordinates=coordinates, deterministic=True)


def test_the_embedded_policy_passes():
    check_policy(load_tiny(), deterministic=True)


def test_the_oracle_passes_on_pairs_that_were_revealed_to_it(renderer):
    policy = OraclePolicy()
    pairs = [renderer.render(plan_pair(seed, STAGES["dual"])) for seed in (1, 2)]
    for pair in pairs:
        policy.reveal(pair)
    check_policy(policy, [observe(pair) for pair in pairs], deterministic=True)


def test_the_oracle_fails_on_pairs_that_were_not():
    with pytest.raises(AssertionError, match="OraclePolicy.act raised LookupError.*reveal"):
        check_policy(OraclePolicy())


def test_an_empty_list_of_boxes_is_an_answer():
    class SeesNothing:
        def act(self, observations):
            return ["[]" for _ in observations]

    check_policy(SeesNothing(), deterministic=True)


# Policies that do not


class Answering:
    """Answers with a box that depends on the images."""

    def act(self, observations: Sequence[dict]) -> list[str]:
        return PixelDiffPolicy().act(observations)


class WithoutAct:
    pass


class NeedsABatch(Answering):
    def act(self, observations):
        np.stack([observation["image_a"] for observation in observations])
        return super().act(observations)


class OneForAll(Answering):
    def act(self, observations):
        return super().act(observations)[:1]


class Tuple(Answering):
    def act(self, observations):
        return tuple(super().act(observations))


class Boxes(Answering):
    def act(self, observations):
        return [[[120, 300, 210, 400]] for _ in observations]


class Painter(Answering):
    def act(self, observations):
        for observation in observations:
            observation["image_a"][0, 0] = 255
        return super().act(observations)


class Prompter(Answering):
    def act(self, observations):
        for observation in observations:
            observation["prompt"] += " Think first."
        return super().act(observations)


class Emptier(Answering):
    def act(self, observations):
        answers = super().act(observations)
        observations.clear()
        return answers


class Once(Answering):
    """Cannot be asked the same twice in one batch."""

    def act(self, observations):
        asked = {observation["image_a"].tobytes() for observation in observations}
        return super().act(observations)[: len(asked)]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (WithoutAct, "WithoutAct has no method act"),
        (NeedsABatch, "NeedsABatch.act raised ValueError.* on 0 observations"),
        (OneForAll, "OneForAll.act returned 1 answers for 5 observations"),
        (Tuple, r"Tuple.act returned \(\) for 0 observations; it must be a list of str"),
        (Boxes, r"Boxes.act returned \[\[\[120.* it must be a list of str"),
        (Painter, "Painter.act changed the observations"),
        (Prompter, "Prompter.act changed the observations"),
        (Emptier, "Emptier.act changed the observations"),
        (Once, "Once.act returned 2 answers for 3 observations"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_told_which(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_policy(broken())


class Sorter(Answering):
    def act(self, observations):
        return sorted(super().act(observations))


class Echo(Answering):
    """Does not answer the same twice in one batch."""

    def act(self, observations):
        answers = super().act(observations)
        return ["[]" if answer in answers[:i] else answer for i, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (RandomPolicy, "RandomPolicy.act gave the same observations two answers"),
        (Echo, "Echo.act gave an observation that came twice in a batch two answers"),
        (Sorter, "Sorter.act gave other answers to the same observations in reverse"),
    ],
)
def test_what_holds_for_deterministic_policies_only_is_checked_for_them_only(broken, message):
    check_policy(broken())
    with pytest.raises(AssertionError, match=message):
        check_policy(broken(), deterministic=True)


def test_answers_that_cannot_be_read_are_a_warning_with_the_reason():
    class Chatty:
        def act(self, observations):
            return ["100 % the cube, at [[1, 2" for _ in observations]

    with pytest.warns(UserWarning, match="none of the 5 answers of Chatty.*100 % the cube.*JSON"):
        check_policy(Chatty(), deterministic=True)


def test_another_answer_alone_than_among_others_is_a_warning():
    class Crowded(Answering):
        def act(self, observations):
            answers = super().act(observations)
            return ["[]"] if len(answers) == 1 else answers

    with pytest.warns(UserWarning, match="Crowded.act answers an observation differently alone"):
        check_policy(Crowded(), deterministic=True)


def test_one_observation_is_too_few():
    with pytest.raises(ValueError, match="1 observations; give two or more"):
        check_policy(RandomPolicy(), [{}])


def test_what_the_broken_ones_are_made_of_passes():
    check_policy(Answering(), deterministic=True)


def test_the_check_itself_leaves_the_global_generators_alone():
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    check_policy(RandomPolicy())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
