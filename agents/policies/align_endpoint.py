"""A model behind an endpoint that plays the alignment tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dig_env.agents.policies.align_chat import chat
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.policies.endpoint import ApiPolicy, filled


class AlignApiPolicy(ApiPolicy):
    """Plays ``DiG-Align-v0``: the image and each crop are images of the user's turns."""

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """The model's next turn in each dialogue; see ``ApiPolicy.act``."""
        chats = map(chat, dialogues)
        return self.ask([filled(messages, list(map(np.asarray, seen))) for messages, seen in chats])
