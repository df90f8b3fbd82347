"""The spaces of texts."""

import copy
import os
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, create_shared_memory

from dig_env.answers import MAX_ANSWER_LENGTH
from dig_env.envs.spaces import AnswerText

ENVIRONMENTS = ("DiG-v0", "DiG-Zoom-v0", "DiG-Align-v0")


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_any_text_and_nothing_else_is_an_action(env_id):
    env = gym.make(env_id)
    for text in ("", "é", "没有", "\ud800", "\0", "[[1, 2, 3, 4]]", "a" * 10**6, np.str_("[]")):
        assert text in env.action_space
    for other in (None, 7, b"[]", ["[]"], np.array("[]")):
        assert other not in env.action_space
    env.close()


def test_samples_are_texts_that_are_read_whole():
    space = AnswerText()
    space.seed(0)
    samples = [space.sample() for _ in range(50)]
    assert all(len(text) <= MAX_ANSWER_LENGTH and text.isascii() for text in samples)
    assert max(map(len, samples)) > 0.9 * MAX_ANSWER_LENGTH
    assert set("".join(samples)) == space.character_set
    assert space.sample(mask=(3, None)) in space


def test_samples_follow_from_the_seed_in_any_process():
    code = (
        "from dig_env.envs.spaces import AnswerText; import zlib; s = AnswerText(); s.seed(3);"
        "print([zlib.crc32(s.sample().encode()) for _ in range(3)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "random")
    }
    assert len(printed) == 1


def test_a_space_of_answers_is_copied_compared_and_batched():
    space = AnswerText()
    for again in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert again == space
    texts = gym.spaces.Text(MAX_ANSWER_LENGTH, min_length=0, charset=space.characters)
    assert space != texts and texts != space
    assert ("é", "", "[]") in batch_space(space, 3)


def test_what_holds_any_text_is_not_laid_into_memory_of_one_size():
    """It would be cut off there, or fail at the first "é"."""
    assert not gym.spaces.Dict(said=AnswerText()).is_np_flattenable
    with pytest.raises(gym.error.CustomSpaceError, match="shared_memory=False"):
        create_shared_memory(AnswerText())


class Echo(gym.Env):
    """Shows what was said last, as wrappers may do with answers."""

    observation_space = action_space = AnswerText()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return "", {}

    def step(self, action):
        return action, 0.0, False, False, {}


def test_answers_may_be_observed_in_vectors_that_share_no_memory():
    with pytest.raises(ValueError, match="shared_memory"):
        gym.vector.AsyncVectorEnv([Echo, Echo])
    vector = gym.vector.AsyncVectorEnv([Echo, Echo], shared_memory=False)
    vector.reset(seed=0)
    assert vector.step(["é", "a" * 10**5])[0] == ("é", "a" * 10**5)
    vector.close()
