"""DiG behind OpenEnv: a server that plays it over the network, and a typed client.

    python -m dig_env.agents.integrations.openenv --dataset pairs  # the server, for this machine

Every connection (a WebSocket) is a session with a ``DiG-v0`` environment of its own. All of them
draw from one renderer, or one dataset. Needs the package ``openenv``.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from fastapi import FastAPI
from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server import Action, Environment, Observation, State
from openenv.core.env_server.http_server import create_fastapi_app
from openenv.core.env_server.types import EnvironmentMetadata
from PIL import Image

from dig_env import RewardLike
from dig_env.drawing import png
from dig_env.envs.dig import DiGEnv
from dig_env.envs.pairs import FreshPairs, PairCache, PairSource, SharedPairs, StoredPairs
from dig_env.scenes import RenderSettings


class DiGAction(Action):
    """The policy's answer. Its boxes are read from the text: see ``dig_env.parse_boxes``."""

    answer: str


class DiGObservation(Observation):
    """What the policy sees; ``reward`` is None until it has answered.

    Attributes:
        prompt: the instruction.
        image_a, image_b: PNG in base64; None once the answer is in.
        metadata: what Gymnasium calls ``info``: "pair_seed" and "stage"; after the answer also
            the parts of the reward, "error" and "truth".
    """

    prompt: str
    image_a: str | None = None
    image_b: str | None = None

    def arrays(self) -> dict[str, Any]:
        """The observation as ``DiG-v0`` gives it, which is what any policy's ``act`` takes.

        Raises:
            ValueError: the images are not sent again with the reward.
        """
        if self.image_a is None or self.image_b is None:
            raise ValueError("this observation came with a reward; only reset() sends the images")
        return {
            "image_a": _decoded(self.image_a),
            "image_b": _decoded(self.image_b),
            "prompt": self.prompt,
        }


class DiGSession(Environment[DiGAction, DiGObservation, State]):
    """One client's environment, which draws from pairs that belong to the server."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, pairs: PairSource, settings: dict[str, Any]) -> None:
        super().__init__()
        self._env = DiGEnv(dataset=pairs, **settings)
        self._state = State()

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **options: Any
    ) -> DiGObservation:
        """The next pair.

        Args:
            seed: reseeds the session's own draw of pairs.
            episode_id: kept in ``state`` for the client's use.
            options: those of ``DiGEnv.reset``: "stage" and "pair_seed".
        """
        seen, info = self._env.reset(seed=seed, options=options)
        self._state = State(episode_id=episode_id)
        return DiGObservation(
            prompt=seen["prompt"],
            image_a=_encoded(seen["image_a"]),
            image_b=_encoded(seen["image_b"]),
            metadata=info,
        )

    def step(self, action: DiGAction, timeout_s: float | None = None, **_: Any) -> DiGObservation:
        """Score the answer; the episode is over."""
        seen, reward, done, _truncated, info = self._env.step(action.answer)
        self._state = State(episode_id=self._state.episode_id, step_count=1)
        return DiGObservation(prompt=seen["prompt"], reward=reward, done=done, metadata=info)

    @property
    def state(self) -> State:
        """Which episode, and whether it has had its answer (``step_count``). Never the truth."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """What the server says of itself at ``/metadata``."""
        return EnvironmentMetadata(
            name="DiG-v0",
            description="Spot the difference: two images, an answer in text, boxes as the truth.",
            version="0",
        )

    def close(self) -> None:
        """End the session; the server's pairs stay open."""
        self._env.close()


class DiGClient(EnvClient[DiGAction, DiGObservation, State]):
    """Plays DiG on a server: asynchronous as it is, ordinary calls through ``.sync()``.

    >>> with DiGClient("http://127.0.0.1:8000").sync() as env:        # doctest: +SKIP
    ...     observation = env.reset(seed=7).observation
    ...     answer = policy.act([observation.arrays()])[0]
    ...     print(env.step(DiGAction(answer=answer)).reward)
    """

    def _step_payload(self, action: DiGAction) -> dict[str, Any]:
        return action.model_dump()

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[DiGObservation]:
        reward, done = payload["reward"], payload["done"]
        observation = DiGObservation(**payload["observation"], reward=reward, done=done)
        return StepResult(observation, reward, done, observation.metadata)

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)


@dataclass(frozen=True)
class ServerSettings:
    """What is served; the fields mean what they mean for ``DiG-v0``.

    Attributes:
        dataset: folder that ``dig-env render`` wrote; None renders fresh pairs.
        width, height, quality, device, workers: of fresh pairs.
        max_sessions: connections at once; one more is refused.
    """

    dataset: Path | None = None
    stage: str = "single"
    split: str = "train"
    coordinates: str = "norm1000"
    reward: Annotated[RewardLike, tyro.conf.arg(constructor=str)] = "full"
    width: int = 320
    height: int = 240
    quality: str = "standard"
    device: str = "auto"
    workers: int = 1
    max_sessions: int = 64

    def open_pairs(self) -> PairSource:
        """The renderer or the dataset; the caller closes it."""
        if self.dataset is not None:
            return StoredPairs(self.dataset, self.split)
        settings = RenderSettings(self.width, self.height, self.quality, self.device)
        return FreshPairs(settings, self.split, self.workers)


def openenv_app(pairs: PairSource, settings: ServerSettings = ServerSettings()) -> FastAPI:
    """The server's application, for any ASGI server.

    Args:
        pairs: see ``ServerSettings.open_pairs``.
        settings: the rest.

    Raises:
        ValueError: an unknown stage, frame or reward, or a dataset without such pairs.
    """
    shared = SharedPairs(pairs, PairCache())
    game = {name: getattr(settings, name) for name in ("stage", "coordinates", "reward")}

    def session() -> DiGSession:
        return DiGSession(shared, game)

    # So that wrong settings fail now, and not at the first client.
    session().close()
    shared.pair_seed(0, settings.stage)
    return create_fastapi_app(
        session, DiGAction, DiGObservation, settings.max_sessions, env_name="DiG-v0"
    )


def serve(
    settings: ServerSettings = ServerSettings(), host: str = "127.0.0.1", port: int = 8000
) -> None:
    """Serve until interrupted.

    Args:
        settings: what is served.
        host: address to listen at. There is no authentication: open it to a trusted network only.
        port: 0 takes a free one.
    """
    import uvicorn

    pairs = settings.open_pairs()
    try:
        uvicorn.run(openenv_app(pairs, settings), host=host, port=port, log_level="info")
    finally:
        pairs.close()


def _encoded(pixels: np.ndarray) -> str:
    return base64.b64encode(png(pixels)).decode()


def _decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]))


if __name__ == "__main__":
    tyro.cli(serve, config=(tyro.conf.OmitArgPrefixes,))
