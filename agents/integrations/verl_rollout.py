"""verl's rollouts, of one turn and of ``DiG-Zoom-v0``, which sample no token of an image.

verl's vLLM (0.9.1) bans two of these tokens, its other engines none. Sampling settings reach an
engine by agent loops alone, so these are two. The export's agent.yaml lists them, and
``actor_rollout_ref.rollout.agent.default_agent_loop`` names the one.
"""

from __future__ import annotations

import functools
from typing import Any
from uuid import uuid4

import numpy as np
from omegaconf import OmegaConf
from PIL import Image
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.utils.profiler import simple_timer
from verl.utils.rollout_trace import rollout_trace_op

from dig_env.agents.integrations.verl import compute_zoom_score
from dig_env.agents.policies.image_tokens import image_tokens
from dig_env.envs.zoom import read_request, zoom_message, zoom_offer, zoom_shown


class WithoutImages(SingleTurnAgentLoop):
    """One answer."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Answer a row of the data set."""
        return await super().run(_without_images(sampling_params, self.processor), **row)


class Zoom(AgentLoopBase):
    """``DiG-Zoom-v0`` on a row's pair: its offer, requests, zooms and reward.

    verl makes one for each rollout. It scores the rollout too, by the options of
    ``reward.custom_reward_function``: verl's reward workers would read all turns as the answer.

    Args:
        turns, turn_cost: those of ``DiG-Zoom-v0``.
        of_verl: what verl gives every agent loop.

    Raises:
        ValueError: the engine takes fewer images than there may be.
    """

    def __init__(self, turns: int = 4, turn_cost: float = 0.0, **of_verl: Any) -> None:
        super().__init__(**of_verl)
        self._turns, self._turn_cost = turns, turn_cost
        kwargs = self.config.reward.custom_reward_function.reward_kwargs
        self._options: dict[str, Any] = OmegaConf.to_container(kwargs, resolve=True)
        allowed = self.rollout_config.limit_images
        if allowed is not None and allowed < turns + 1:
            raise ValueError(
                f"actor_rollout_ref.rollout.limit_images={allowed}, but a pair and its zooms are "
                f"up to {turns + 1} images: give {turns + 1}, or fewer turns in agent.yaml"
            )
        self._messages: list[dict[str, Any]] = []
        self._images: list[Image.Image] = []
        self._ids: list[int] = []
        self._mask: list[int] = []
        self._logprobs: list[float] | None = None
        self._experts: Any = None
        self._metrics: dict[str, Any] = {}
        self._extra: dict[str, Any] = {"turn_scores": [], "tool_rewards": []}

    @rollout_trace_op
    async def run(
        self, sampling_params: dict[str, Any], priority: int = 0, **row: Any
    ) -> AgentLoopOutput:
        """Play a row of the data set until it is answered, or turns or tokens are used up."""
        self._messages, self._images = _offered(row["raw_prompt"], self._turns)
        self._ids = await self.ct_build_initial_tokens(self._messages, images=self._images)
        length, pair = len(self._ids), [np.asarray(image) for image in self._images]
        fixed = self.rollout_config.full_determinism
        ask = functools.partial(
            self._reply,
            _without_images(sampling_params, self.processor),
            request_id=f"det-{priority}" if fixed else uuid4().hex,
            priority=int(priority),
        )
        coordinates, opening = self._options["coordinates"], self._options["opening"]
        answer, requests = "", 0
        for left in reversed(range(self._turns)):
            text = await ask()
            asked = read_request(opening + text, coordinates, self._images[0].size)
            if asked is None:
                answer = text
                break
            requests += 1
            seen = {"image_a": pair[0], "turns_left": left} | zoom_shown(asked, pair)
            if left == 0 or not await self._show(text, seen, coordinates):
                break
        score = functools.partial(
            compute_zoom_score,
            answer,
            requests,
            row["reward_model"]["ground_truth"],
            row.get("extra_info"),
            self._turn_cost,
            **self._options,
        )
        return self._output(length, await self.loop.run_in_executor(None, score))

    async def _reply(self, sampling_params: dict[str, Any], **asked: Any) -> str:
        """The model's next turn, which has the tokens that are left."""
        room = self.rollout_config.response_length - len(self._mask)
        with simple_timer("generate_sequences", self._metrics):
            output = await self.server_manager.generate(
                prompt_ids=self._ids,
                sampling_params=sampling_params | {"max_tokens": room},
                image_data=self._images,
                mm_processor_kwargs=self._get_mm_processor_kwargs(),
                **asked,
            )
        if self._logprobs is None and output.log_probs:
            self._logprobs = []
        merged, self._mask, self._logprobs = await self.ct_merge_assistant_token(
            self._ids, output.token_ids, self._mask, self._logprobs, output.log_probs or None
        )
        self._ids = merged.token_ids
        if output.routed_experts is not None:
            self._experts = output.routed_experts
        if output.num_preempted is not None:
            before = self._metrics.get("num_preempted", 0)
            self._metrics["num_preempted"] = before + output.num_preempted
        # Of the first turn, as verl's tools have it, but for the newest weights that were used.
        newest = {k: v for k, v in output.extra_fields.items() if k == "max_global_steps"}
        self._extra = output.extra_fields | self._extra | newest
        return self.tokenizer.decode(output.token_ids, skip_special_tokens=True)

    async def _show(self, text: str, seen: dict[str, Any], coordinates: str) -> bool:
        """Append the user's turn after a request; False if no token would be left for a reply."""
        said = {"role": "assistant", "content": text}
        content: list[dict[str, Any]] = [{"type": "text", "text": zoom_message(seen, coordinates)}]
        if seen["shown"]:
            content.insert(0, {"type": "image", "image": Image.fromarray(seen["zoom"])})
        before = [*self._messages, said]
        after = [*before, {"role": "user", "content": content}]
        merged, mask, logprobs = await self.ct_merge_context_msg(
            before, after, self._ids, self._mask, self._logprobs
        )
        if len(mask) >= self.rollout_config.response_length:
            return False
        self._messages, self._ids, self._mask, self._logprobs = (
            after,
            merged.token_ids,
            mask,
            logprobs,
        )
        self._images += [part["image"] for part in content if part["type"] == "image"]
        return True

    def _output(self, length: int, scored: dict[str, float]) -> AgentLoopOutput:
        """The rollout as verl wants it; ``length`` tokens are the prompt's."""
        return AgentLoopOutput(
            prompt_ids=self._ids[:length],
            response_ids=self._ids[length:],
            response_mask=self._mask,
            response_logprobs=self._logprobs,
            routed_experts=self._experts,
            multi_modal_data={"images": self._images},
            mm_processor_kwargs=self._get_mm_processor_kwargs(),
            reward_score=scored["score"],
            num_turns=len(self._messages) + 1,
            metrics=self._metrics,
            extra_fields=self._extra | {"reward_extra_info": scored},
        )


def _without_images(sampling_params: dict[str, Any], processor: Any) -> dict[str, Any]:
    """The settings, and what forbids the tokens that stand for images.

    vLLM and SGLang take "logit_bias", of which -100 is vLLM's least; its "bad_words" would need the
    tokenizer that verl keeps from it.
    """
    return sampling_params | {"logit_bias": dict.fromkeys(image_tokens(processor), -100.0)}


def _offered(
    prompt: list[dict[str, Any]], turns: int
) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """A row's prompt with the offer of zooms behind it, and its images.

    The images go to the engine and to the learner as they are, whose processors resize them alike.
    verl's own reader would resize them first, and zooms would be cut out of fewer pixels.
    """
    (message,) = prompt
    *slots, text = message["content"]
    offered = {"type": "text", "text": text["text"] + zoom_offer(turns)}
    images = [slot["image"].convert("RGB") for slot in slots]
    return [message | {"content": [*slots, offered]}], images
