"""DiG on another machine: ``gym.make("DiG-Remote-v0", url=...)`` plays on a ``dig-env serve``.

What travels is JSON: the images once an episode, as PNG in base64; the answer; the reward and its
parts. The truth comes with the reward, and never before it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import io
import json
import os
from collections.abc import Mapping
from time import sleep
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from PIL import Image

from dig_env.drawing import RENDER_MODES, Display, draw_pair
from dig_env.envs import TOKEN_VARIABLE
from dig_env.envs.dig import check_action, spaces_of
from dig_env.envs.sampler import plain_seed
from dig_env.reward_config import RewardConfig, RewardLike
from dig_env.scenes import Difficulty, DifficultyError, RenderError, resolve_stage
from dig_env.scenes.extras import extra
from dig_env.scenes.forks import reset_after_fork

with extra("serve"):
    import httpx


class RemoteError(RuntimeError):
    """The server cannot be reached, refuses, or no longer knows the session."""


_ERRORS = {
    error.__name__: error
    for error in (
        ValueError,
        TypeError,
        DifficultyError,
        RenderError,
        gym.error.Error,
        gym.error.ResetNeeded,
    )
}
"""What a server's error is here; anything else is a RemoteError."""


class DiGRemoteEnv(gym.Env[dict[str, Any], str], EzPickle):
    """``DiG-v0`` that is played by a server: same observations, rewards and infos at equal seeds.

    Spaces, rewards, reset options and errors are those of ``DiGEnv``. The truth is in ``info``
    after the answer; there is no ``env.pair``.

    Args:
        url: of the server, such as "http://127.0.0.1:8000".
        token: what ``dig-env serve`` printed; by default the variable DIG_ENV_TOKEN.
        stage, width, height, quality, coordinates, reward, split, render_mode: as for ``DiGEnv``.
            The server limits the size.
        dataset: name of a dataset that the server offers; None has it render.
        timeout_s: longest wait for an answer; pairs may queue behind those of others.

    Raises:
        RemoteError: the server cannot be reached, or refuses (wrong token, too many sessions).
        ValueError: an argument is not allowed; the message is the server's.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}

    def __init__(
        self,
        url: str,
        token: str | None = None,
        stage: str | dict[str, Any] | Difficulty = "single",
        width: int | None = None,
        height: int | None = None,
        quality: str | None = None,
        dataset: str | None = None,
        coordinates: str = "norm1000",
        reward: RewardLike | None = None,
        split: str = "train",
        render_mode: str | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        arguments = (url, token, stage, width, height, quality, dataset, coordinates, reward, split)
        EzPickle.__init__(self, *arguments, render_mode, timeout_s)
        self._stage, self._difficulty = _meant(stage)
        self.render_mode, self._display = render_mode, Display(render_mode)
        self.coordinates = coordinates
        self._observation: dict[str, Any] | None = None
        self._boxes_drawn: list[np.ndarray] = []
        token = os.environ.get(TOKEN_VARIABLE) if token is None else token
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._connect = functools.partial(
            httpx.Client, base_url=url, headers=headers, timeout=timeout_s
        )
        asked: dict[str, Any] = {"stage": stage, "width": width, "height": height}
        asked |= {"quality": quality, "dataset": dataset, "coordinates": coordinates}
        asked |= {"reward": reward, "split": split}
        self._options = {name: value for name, value in asked.items() if value is not None}
        self._session = ""
        size = self._open_session()
        self.observation_space, self.action_space = spaces_of(coordinates, size)
        reset_after_fork(self, DiGRemoteEnv._reset_after_fork)

    @functools.cached_property
    def _http(self) -> httpx.Client:
        return self._connect()

    def _reset_after_fork(self) -> None:
        """In a forked process: leave the parent its session, and open one when it is needed."""
        self._session = ""
        vars(self).pop("_http", None)

    def _open_session(self) -> tuple[int, int]:
        """Have the server open one; the (width, height) of its images."""
        opened = self._ask("POST", "/sessions", self._options)
        self._session = f"/sessions/{opened['session']}"
        return opened["width"], opened["height"]

    @property
    def stage(self) -> str:
        """As for ``DiGEnv``."""
        return self._stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        if stage != self._stage:  # "custom" is the present one where that has no name
            self._stage, self._difficulty = _meant(stage)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next pair. Arguments and errors as for ``DiGEnv``; RemoteError as for the class."""
        seed = plain_seed(seed)
        super().reset(seed=seed)
        stage = self._difficulty or self._stage
        self._observation, self._boxes_drawn = None, []
        asked = {"seed": seed, "options": {"stage": stage} | (options or {})}
        reply = self._ask_session("reset", asked)
        self._observation = {
            "image_a": _decoded(reply["observation"]["image_a"]),
            "image_b": _decoded(reply["observation"]["image_b"]),
            "prompt": reply["observation"]["prompt"],
        }
        if self.render_mode == "human":
            self.render()
        return self._seen(), reply["info"]

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Score the answer; the episode is over. Errors as for ``DiGEnv`` and ``reset``."""
        if self._observation is not None and not self._boxes_drawn:  # a pair is open
            check_action(action)
        reply = self._ask_session("step", {"action": action})
        self._boxes_drawn = [np.reshape(boxes, (-1, 4)) for boxes in reply["boxes_drawn"]]
        if self.render_mode == "human":
            self.render()
        rest = (reply["reward"], reply["terminated"], reply["truncated"], reply["info"])
        return self._seen(), *rest

    def render(self) -> np.ndarray | None:
        """As for ``DiGEnv``: the same pictures, drawn here."""
        return self._display.show(self._frame)

    def _frame(self) -> np.ndarray:
        if self._observation is None:
            raise gym.error.ResetNeeded("there is no pair yet: call reset() first")
        images = (self._observation["image_a"], self._observation["image_b"])
        return draw_pair(*images, *self._boxes_drawn)

    def close(self) -> None:
        """End the session and close the window; safe to call twice."""
        self._display.close()
        if not self._http.is_closed:
            if self._session:
                with contextlib.suppress(httpx.HTTPError):  # the server ends what is left idle
                    self._http.delete(self._session)
            self._http.close()

    def _seen(self) -> dict[str, Any]:
        assert self._observation is not None
        images = {name: self._observation[name].copy() for name in ("image_a", "image_b")}
        return images | {"prompt": self._observation["prompt"]}

    def _ask_session(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self._session:
            self._open_session()
        return self._ask("POST", f"{self._session}/{what}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The server's answer. A request that came too early is made again when its time has come;
        no other is, since the server may have done what it asked for."""
        text = json.dumps(body, default=_plain, ensure_ascii=False)
        content = text.encode(errors="surrogatepass")  # an answer may hold half of a pair
        while True:
            try:
                response = self._http.request(method, path, content=content)
            except httpx.HTTPError as error:
                raise RemoteError(
                    f"{self._http.base_url} gave no answer ({type(error).__name__}: {error}): see "
                    "whether 'dig-env serve' runs there, then make a new environment"
                ) from error
            reply = _error_response(response)
            if response.is_success:
                return reply
            if reply["error"] != "TooManyRequests":
                error_here = _ERRORS.get(reply["error"], RemoteError)
                raise error_here(reply["message"])
            sleep(float(response.headers["Retry-After"]))


def _meant(stage: str | dict[str, Any] | Difficulty) -> tuple[str, Difficulty | None]:
    """A stage's name, and its difficulty where it has none: what names mean, the server knows."""
    if isinstance(stage, str):
        return stage, None
    name, difficulty = resolve_stage(stage)
    return name, difficulty if name == "custom" else None


def _error_response(response: httpx.Response) -> dict[str, Any]:
    try:
        reply = response.json()
        if response.is_success or {"error", "message"} <= reply.keys():
            return reply
    except (ValueError, AttributeError):
        pass
    raise RemoteError(
        f"{response.url} answered {response.status_code} and not as 'dig-env serve' does: check "
        "the address, and what stands between"
    )


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, Difficulty):
        return value.to_json()
    if isinstance(value, RewardConfig):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is a {type(value).__name__}, which cannot be sent to a server")


def _decoded(text: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]))
