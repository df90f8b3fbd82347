"""A multimodal language model that plays the alignment tasks."""

from __future__ import annotations

from collections.abc import Sequence

from dig_env.agents.policies.align_chat import chat
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.policies.mllm import MLLMPolicy


class AlignMLLMPolicy(MLLMPolicy):
    """Plays ``DiG-Align-v0`` in a chat: the image and each crop are images of the user's turns.

    Arguments and ``from_pretrained`` are those of ``MLLMPolicy``.
    """

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """The model's next turn in each dialogue."""
        return self.answer_all(dialogues, chat)
