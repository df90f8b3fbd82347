"""Play DiG over the network: three sessions at once on one OpenEnv server.

pip install openenv
python -m dig_env.agents.integrations.openenv --stage dual        # in another terminal
python examples/trainers/openenv_client.py http://127.0.0.1:8000
"""

import asyncio
import sys

from dig_env.agents import PixelDiffPolicy
from dig_env.agents.integrations.openenv import DiGAction, DiGClient

policy = PixelDiffPolicy()


async def play(address: str, seed: int) -> None:
    """Two pairs of a session's own."""
    async with DiGClient(address, message_timeout_s=600) as env:  # rendering may take a while
        for reset in ({"seed": seed}, {}):
            observation = (await env.reset(**reset)).observation
            (answer,) = policy.act([observation.arrays()])
            result = await env.step(DiGAction(answer=answer))
            info = result.observation.metadata
            print(f"session {seed}, pair {info['pair_seed']}: {answer}")
            print(f"    reward {result.reward:.3f}, F1 {info['f1']:.2f}, {info['truth']}")


async def main(address: str = "http://127.0.0.1:8000") -> None:
    await asyncio.gather(*(play(address, seed) for seed in range(3)))


asyncio.run(main(*sys.argv[1:]))
