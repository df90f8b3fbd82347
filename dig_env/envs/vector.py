"""Many environments that share one renderer: ``gym.make_vec("DiG-v0", num_envs=8)``."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from dig_env.envs.dig import DiGEnv
from dig_env.envs.sampler import absolute
from dig_env.scenes.arguments import whole


class DiGVectorEnv(SyncVectorEnv, EzPickle):
    """A ``SyncVectorEnv`` of ``DiGEnv`` whose environments share their source of pairs.

    Same arguments, seeds, observations, rewards and infos as Gymnasium's ``SyncVectorEnv`` and
    ``AsyncVectorEnv``, with ``workers`` Blender processes in all rather than for each environment.
    They first render the pairs that are to be shown now, and then, while the policy thinks, the
    next pair of every environment.

    Args:
        num_envs: number of environments, at least 1.
        autoreset_mode: when a finished environment is reset: a ``gymnasium.vector.AutoresetMode``
            or its value. "NextStep" (default) ignores the answer that follows a finished episode
            and shows the next pair instead, "SameStep" shows it together with the reward and gives
            the last pair as ``infos["final_obs"]``, "Disabled" leaves resets to
            ``options={"reset_mask": ...}``.
        **arguments: those of ``DiGEnv``. A ``PairSource`` given as ``dataset`` is shared by all
            environments, and stays yours to close.

    Raises:
        ValueError: ``num_envs``, ``autoreset_mode`` or an argument of ``DiGEnv`` is not allowed.
    """

    envs: list[Any]  # each a DiGEnv

    def __init__(
        self,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **arguments: Any,
    ) -> None:
        num_envs = whole("num_envs", num_envs, 1, of=" of environments")
        autoreset_mode = AutoresetMode(autoreset_mode)  # before anything is made
        arguments["dataset"] = absolute(arguments.get("dataset"))
        first = DiGEnv(**arguments)
        shared = arguments | {"dataset": first.pairs.source}
        makers = [lambda: first, *[lambda: DiGEnv(**shared)] * (num_envs - 1)]
        super().__init__(makers, autoreset_mode=autoreset_mode)
        for env in self.envs:
            # All workers have work as soon as the environments together look that far ahead.
            env.pairs.prefetch_count = -(-first.pairs.source.prefetch_count // num_envs)
        EzPickle.__init__(self, num_envs, autoreset_mode, **arguments)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Show every environment's next pair, or only where ``options["reset_mask"]`` is true.

        Args:
            seed: environment i gets ``seed + i``, or the i-th of a list.
            options: those of ``DiGEnv.reset`` and "reset_mask", (num_envs,) bool array.
        """
        options = dict(options or {})  # a copy, since Gymnasium takes the mask out of it
        if seed is None:
            seed = [None] * self.num_envs
        elif not isinstance(seed, (list, tuple, np.ndarray)):
            seed = [whole("seed", seed) + index for index in range(self.num_envs)]
        mask = options.get("reset_mask", [True] * self.num_envs)
        own = {name: value for name, value in options.items() if name != "reset_mask"}
        # Lengths that are not right are Gymnasium's to refuse.
        for env, env_seed, due in zip(self.envs, seed, mask, strict=False):
            if due:
                env.prefetch(seed=env_seed, options=own)
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[dict[str, Any], Any, Any, Any, dict[str, Any]]:
        """Score the answers, a sequence of num_envs texts, and reset as ``autoreset_mode`` says."""
        for env, due in zip(self.envs, self._autoreset_envs, strict=True):
            if due:  # the stage may have been changed since the last prefetch
                env.prefetch()
        return super().step(actions)
