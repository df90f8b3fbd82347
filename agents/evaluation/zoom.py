"""Play ``DiG-Zoom-v0`` with a policy, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import gymnasium as gym
import numpy as np

from dig_env.agents.evaluation.episodes import Episode, mean_metrics
from dig_env.agents.evaluation.pairs import scored_episode
from dig_env.agents.policies.dialogue import Dialogue, DialoguePolicy
from dig_env.agents.policies.zoom import ZoomOraclePolicy
from dig_env.envs.zoom import DiGZoomEnv


def play_zoom(
    policy: DialoguePolicy,
    env: gym.Env,
    episodes: int = 200,
    seed: int = 0,
    on_episode: Callable[[Episode], None] | None = None,
) -> list[Episode]:
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
    game = cast(DiGZoomEnv, env.unwrapped)
    played = []
    for index in range(episodes):
        observation, _ = env.reset(seed=seed if index == 0 else None)
        if isinstance(policy, ZoomOraclePolicy):
            policy.reveal(game.pair)
        dialogue, earned, terminated, truncated = Dialogue([observation]), 0.0, False, False
        while not (terminated or truncated):
            (text,) = policy.reply([dialogue])
            observation, reward, terminated, truncated, _ = env.step(text)
            dialogue.texts.append(text)
            earned += float(reward)
            if not (terminated or truncated):
                dialogue.observations.append(observation)
        answer = text if terminated else ""
        episode = scored_episode(game.pair, answer, game.coordinates, game.reward_config)
        cost = episode.score.total - earned
        episode = replace(episode, dialogue=dialogue, cost=cost, truncated=truncated)
        played.append(episode)
        if on_episode is not None:
            on_episode(episode)
    return played


def zoom_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """``mean_metrics``, and the means of "turns" and of "truncated"."""
    turns = [len(episode.dialogue.texts) for episode in episodes if episode.dialogue]
    truncated = [episode.truncated for episode in episodes]
    return mean_metrics(episodes) | {
        "turns": float(np.mean(turns)),
        "truncated": float(np.mean(truncated)),
    }
