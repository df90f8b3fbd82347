"""A client of the tests' server."""

import gymnasium as gym

TINY = {"width": 64, "height": 48, "quality": "draft"}
TOKEN = "a token of the tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ANSWER = "[[0, 0, 999, 999]]"


def remote(url, **options):
    return gym.make("DiG-Remote-v0", url=url, **options)


def play(env, answers, **first):
    """Everything that an environment hands out in an episode of each answer."""
    handed = []
    for index, answer in enumerate(answers):
        handed.append(env.reset(**(first if index == 0 else {})))
        handed += [env.render(), env.step(answer), env.render()]
    env.close()
    return handed
