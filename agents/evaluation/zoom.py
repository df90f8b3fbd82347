"""Play ``DiG-Zoom-v0`` with a policy, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np

from dig_env import PARTS
from dig_env.agents.policies.dialogue import Dialogue, DialoguePolicy
from dig_env.agents.policies.zoom import ZoomOraclePolicy
from dig_env.envs.zoom import DiGZoomEnv
from dig_env.scenes import Pair


@dataclass(frozen=True, eq=False)
class ZoomEpisode:
    """A pair that was played in ``DiG-Zoom-v0``.

    Attributes:
        pair: what was asked about.
        dialogue: all observations but the last, and all texts: the last is the answer.
        reward: the sum of the rewards: the score minus the cost of the requests.
        truncated: there was no answer.
        info: of the last step: the parts of the score, the truth.
    """

    pair: Pair
    dialogue: Dialogue
    reward: float
    truncated: bool
    info: dict[str, Any]


def play_zoom(
    policy: DialoguePolicy,
    env: gym.Env,
    episodes: int = 200,
    seed: int = 0,
    on_episode: Callable[[ZoomEpisode], None] | None = None,
) -> list[ZoomEpisode]:
    """Play episodes of ``DiG-Zoom-v0``, one after the other.

    With ``split="test"`` the pairs are those of ``dig_env.agents.evaluate`` with the same stage,
    seed and render settings.

    Args:
        policy: replies to dialogues.
        env: made by ``gym.make("DiG-Zoom-v0", ...)``.
        episodes: at least 1.
        seed: of the draw of pairs.
        on_episode: called after each episode, for progress.

    Raises:
        ValueError: ``episodes`` is not positive.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r}: give 1 or more")
    played = []
    for index in range(episodes):
        observation, _ = env.reset(seed=seed if index == 0 else None)
        pair = cast(DiGZoomEnv, env.unwrapped).pair
        if isinstance(policy, ZoomOraclePolicy):
            policy.reveal(pair)
        dialogue, earned, terminated, truncated = Dialogue([observation]), 0.0, False, False
        while not (terminated or truncated):
            (text,) = policy.reply([dialogue])
            observation, reward, terminated, truncated, info = env.step(text)
            dialogue.texts.append(text)
            earned += float(reward)
            if not (terminated or truncated):
                dialogue.observations.append(observation)
        played.append(ZoomEpisode(pair, dialogue, earned, truncated, info))
        if on_episode is not None:
            on_episode(played[-1])
    return played


def zoom_metrics(episodes: Sequence[ZoomEpisode]) -> dict[str, float]:
    """Means over episodes: "reward" with costs, the parts of the score, "turns", "truncated"."""
    values = [
        {
            "reward": episode.reward,
            **{part: episode.info[part] for part in PARTS},
            "turns": float(len(episode.dialogue.texts)),
            "truncated": float(episode.truncated),
        }
        for episode in episodes
    ]
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}
