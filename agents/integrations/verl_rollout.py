"""verl's one-turn rollout, which never samples a token that stands for an image.

Its settings reach ``vllm.SamplingParams`` by agent loops alone (verl 0.9), so this is one, named by
``actor_rollout_ref.rollout.agent``.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from dig_env.agents.policies.image_tokens import image_tokens


class WithoutImages(SingleTurnAgentLoop):
    """One answer.

    vLLM takes "logit_bias", of which -100 is the least; "bad_words" would need the tokenizer that
    verl keeps from it.
    """

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Answer a row of the data set."""
        bias = dict.fromkeys(image_tokens(self.processor), -100.0)
        return await super().run({**sampling_params, "logit_bias": bias}, **row)
