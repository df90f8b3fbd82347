"""``DiG-v0`` for NeMo Gym: the resource server that scores an answer.

``dig-env export --format nemo`` writes its rows, its configuration and the app that runs it. Needs
``nemo-gym``, and so Python 3.12 or later.
"""

from __future__ import annotations

from typing import Any

from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)

from dig_env import PARTS
from dig_env.agents.integrations import score_responses


class DiGVerifyRequest(BaseVerifyRequest):
    """A row with the model's response.

    Attributes:
        truth: the text of the true boxes.
        reward_options: see the head of ``dig_env.agents.integrations``. A response with its
            reasoning apart needs, and gets, no opening.
    """

    truth: str
    reward_options: dict[str, Any] = {}


class DiGVerifyResponse(BaseVerifyResponse):
    """The reward and its parts, whose means NeMo Gym reports."""

    format: float
    f1: float
    iou: float
    precision: float
    recall: float


class DiGServer(SimpleResourcesServer):
    """Scores one answer."""

    config: BaseResourcesServerConfig

    async def verify(self, body: DiGVerifyRequest) -> DiGVerifyResponse:
        """Score the text of a response."""
        reasoned = any(item.type == "reasoning" for item in body.response.output)
        options = body.reward_options | ({"opening": ""} if reasoned else {})
        (result,) = score_responses([body.response.output_text], [body.truth], **options)
        parts = {name: getattr(result, name) for name in PARTS}
        return DiGVerifyResponse(**body.model_dump(), reward=result.total, **parts)
