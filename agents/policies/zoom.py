"""Policies for ``DiG-Zoom-v0``, which zoom before they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from dig_env import format_boxes
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.policies.mllm import MLLMPolicy, pair_messages
from dig_env.envs.zoom import zoom_message
from dig_env.scenes import Pair
from dig_env.scenes.extras import extra

with extra("train"):
    from transformers import PreTrainedModel, ProcessorMixin


class ZoomOraclePolicy:
    """Looks at one true box a turn, in A and B by turns, then answers with all of them.

    Where the turns are fewer than the differences it looks at the first ones.

    Args:
        coordinates: frame to answer in.
    """

    def __init__(self, coordinates: str = "norm1000") -> None:
        self._coordinates = coordinates
        self._boxes: dict[bytes, np.ndarray] = {}

    def reveal(self, pair: Pair) -> None:
        """Show the truth of a pair that is to be played; ``play_zoom`` does."""
        self._boxes = {pair.image_a.tobytes() + pair.image_b.tobytes(): pair.boxes_unit}

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Ask or answer.

        Raises:
            LookupError: the pair is not the one that was revealed last.
        """
        return [self._next(dialogue) for dialogue in dialogues]

    def _next(self, dialogue: Dialogue) -> str:
        observation = dialogue.observations[-1]
        key = observation["image_a"].tobytes() + observation["image_b"].tobytes()
        if key not in self._boxes:
            raise LookupError(
                "ZoomOraclePolicy was not shown this pair: use play_zoom of "
                "dig_env.agents.evaluation.zoom, or call policy.reveal(env.unwrapped.pair) after "
                "each reset"
            )
        boxes, turn = self._boxes[key], len(dialogue.texts)
        height, width = observation["image_a"].shape[:2]
        frame = (self._coordinates, (width, height))
        if turn < len(boxes) and observation["turns_left"] > 1:
            box = format_boxes(boxes[turn][None], *frame, exact=True)[1:-1]
            return f"zoom({'AB'[turn % 2]}, {box})"
        return format_boxes(boxes, *frame, exact=True)


class ZoomMLLMPolicy(MLLMPolicy):
    """A multimodal language model that plays in a chat: each zoom is an image of the user's turn.

    Args:
        model, processor, settings: see ``MLLMPolicy``.
        coordinates: frame in which the user's turns name regions: that of the environment.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        coordinates: str = "norm1000",
        **settings: Any,
    ):
        super().__init__(model, processor, **settings)
        self.coordinates = coordinates

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """The model's next turn in each dialogue."""
        return self.answer_all(dialogues, lambda dialogue: chat(dialogue, self.coordinates))


def chat(
    dialogue: Dialogue, coordinates: str = "norm1000"
) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """A dialogue as a chat: the messages, with image slots, and the images that fill them."""
    first, *later = dialogue.observations
    messages = pair_messages(first["prompt"])
    images = [first["image_a"], first["image_b"]]
    for text, observation in zip(dialogue.texts, later, strict=True):
        content: list[dict[str, Any]] = []
        if observation["shown"]:
            content.append({"type": "image", "object": True})
            images.append(observation["zoom"])
        content.append({"type": "text", "text": zoom_message(observation, coordinates)})
        # In parts, since Qwen3-VL's processor refuses a plain string beside images.
        said = [{"type": "text", "text": text}]
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": content}]
    return messages, [Image.fromarray(image) for image in images]
