"""Questions as chats: messages with image slots, and the images that fill them in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from dig_env.agents.policies.dialogue import Dialogue
from dig_env.align import Question
from dig_env.align.questions import IMAGE, OBJECT, write_answer

_SLOT = re.compile(f"({re.escape(IMAGE)}|{re.escape(OBJECT)})")


_PARTS: dict[str, dict[str, Any]] = {
    IMAGE: {"type": "image"},
    # The compact model sees a crop by itself; other models' templates take it for one more image.
    OBJECT: {"type": "image", "object": True},
}


def content_parts(prompt: str) -> list[dict[str, Any]]:
    """A prompt as the parts of a message, a slot for the image and for each crop.

    >>> content_parts("<image>Find this <object>")
    [{'type': 'image'}, {'type': 'text', 'text': 'Find this '}, {'type': 'image', 'object': True}]
    """
    return [
        dict(_PARTS.get(piece, {"type": "text", "text": piece}))
        for piece in _SLOT.split(prompt)
        if piece
    ]


def messages_of(prompts: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    """Alternating messages of a user and an assistant; the last answer may be missing."""
    messages = []
    for index, prompt in enumerate(prompts):
        messages.append({"role": "user", "content": content_parts(prompt)})
        if index < len(answers):
            # In parts, since Qwen3-VL's processor refuses a plain string beside images.
            said = [{"type": "text", "text": answers[index]}]
            messages.append({"role": "assistant", "content": said})
    return messages


def chat(dialogue: Dialogue) -> tuple[list[dict[str, Any]], list[Image.Image]]:
    """A dialogue of ``DiG-Align-v0`` as a chat: the messages, and what fills their slots."""
    images = [dialogue.observations[0]["image"]]
    for observation in dialogue.observations:
        images += list(observation["crops"][: observation["crop_count"]])
    prompts = [observation["prompt"] for observation in dialogue.observations]
    return messages_of(prompts, dialogue.texts), [Image.fromarray(image) for image in images]


def question_images(question: Question) -> list[np.ndarray]:
    """The image, then the crops of all turns: what fills the slots, in their order."""
    return [question.image, *(crop for turn in question.turns for crop in turn.crops)]


def right_answers(question: Question, coordinates: str) -> list[str]:
    """What a policy should write in each turn."""
    return [write_answer(turn.truth, coordinates, question.size) for turn in question.turns]
