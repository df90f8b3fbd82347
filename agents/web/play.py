"""A human plays the environment: what a policy sees, and the reward that a policy would get."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import gymnasium as gym

from dig_env import DiGEnv, format_boxes, resolve_reward
from dig_env.agents.evaluation.human_answers import append_answers, read_answers
from dig_env.agents.evaluation.pairs import pair_seeds, scored_episode
from dig_env.agents.policies.messages import png_url
from dig_env.agents.reporting.pages import render_page
from dig_env.agents.web.server import Conflict, outcome, web_app
from dig_env.drawing import png
from dig_env.scenes import STAGES, RenderSettings, resolve_stage
from dig_env.scenes.extras import extra

with extra("play"):
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

SPLIT = "test"


class Player:
    """A human's session, from any thread; answers are kept as they are given.

    Each stage shows the pairs that ``dig_env.agents.evaluate`` plays with the same seed and images,
    except for those that the file of answers has already. The next one is rendered while the human
    looks.

    Args:
        settings: of the images.
        seed: of the draw of pairs.
        reward: name of one of ``dig_env.REWARDS``.
        out: file of answers, JSON lines, to add to; made if absent.

    Raises:
        ValueError: there is no such reward, or the file holds something else.
    """

    def __init__(self, settings: RenderSettings, seed: int, reward: str, out: Path) -> None:
        self.settings, self.seed, self.reward, self.out = settings, seed, reward, out
        self._config = resolve_reward(reward)
        self._answers = read_answers(out, settings) if out.exists() else []
        self._unsaved: list[dict[str, Any]] = []
        self._open: tuple[str, int] | None = None
        self._seen_at: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()
        self._env = gym.make("DiG-v0", split=SPLIT, reward=reward, **asdict(settings))
        self._game = cast(DiGEnv, self._env.unwrapped)

    def show(self, stage: str) -> dict[str, Any]:
        """The stage's first pair without an answer, for the page; never the truth.

        Returns:
            "stage", "pair_seed", "prompt", "image_a" and "image_b" (data URLs), and "summary".

        Raises:
            dig_env.scenes.DifficultyError: there is no such stage.
            dig_env.scenes.RenderError: Blender is missing or failed.
        """
        resolve_stage(stage)
        with self._lock:
            pair_seed, following = itertools.islice(self._unanswered(stage), 2)
            if self._open != (stage, pair_seed):
                self._open = None
                options = {"stage": stage, "pair_seed": pair_seed}
                self._observation, _ = self._env.reset(options=options)
                self._open = (stage, pair_seed)
            self._game.prefetch(options={"stage": stage, "pair_seed": following})
            self._seen_at.setdefault(self._open, time.monotonic())
            return {
                "stage": stage,
                "pair_seed": str(pair_seed),  # JavaScript's numbers have fewer digits
                "prompt": self._observation["prompt"],
                "image_a": png_url(png(self._observation["image_a"], compress_level=1)),
                "image_b": png_url(png(self._observation["image_b"], compress_level=1)),
                "summary": self.summary(),
            }

    def answer(self, stage: str, pair_seed: int, boxes: list[list[float]]) -> dict[str, Any]:
        """Score the boxes by ``env.step`` and keep the answer.

        Args:
            stage, pair_seed: the pair, as ``show`` gave it.
            boxes: xyxy in the unit frame; none for "nothing differs".

        Returns:
            What ``outcome`` says, what is kept (see ``dig_env.agents.evaluation.human_answers`` and
            ``Episode.to_json``), "warning" (why it could not be saved, or "") and "summary".

        Raises:
            Conflict: this pair is not open.
            ValueError, TypeError: not boxes in the unit frame.
        """
        text = format_boxes(boxes)
        with self._lock:
            if self._open != (stage, pair_seed):
                raise Conflict(
                    "this pair is not open any more: it was answered, or another page opened "
                    "another one; reload this page"
                )
            seconds = time.monotonic() - self._seen_at[self._open]
            _, reward, *_ = self._env.step(text)
            self._open = None
            pair = self._game.pair
            episode = scored_episode(pair, text, self._game.coordinates, self._config)
            images = {name: getattr(self.settings, name) for name in ("width", "height", "quality")}
            given = {"stage": stage, **images, "seconds": round(seconds, 1), **episode.to_json()}
            given["reward"] = reward
            self._answers.append(given)
            reply = given | {"warning": self._saved(given), "summary": self.summary()}
        return reply | outcome(pair, episode.score, self._config)

    def summary(self) -> list[dict[str, Any]]:
        """Of each stage that was played: "episodes", mean "reward", "f1" and "iou", and the median
        "seconds" that an answer took, from the first look."""
        rows = []
        for stage in dict.fromkeys(answer["stage"] for answer in self._answers):
            of_stage = [answer for answer in self._answers if answer["stage"] == stage]
            values = {name: [a[name] for a in of_stage] for name in ("reward", "f1", "iou")}
            means = {name: statistics.fmean(numbers) for name, numbers in values.items()}
            median = statistics.median(answer["seconds"] for answer in of_stage)
            rows.append({"stage": stage, "episodes": len(of_stage), **means, "seconds": median})
        return rows

    def close(self) -> None:
        """End Blender; safe to call twice."""
        self._env.close()

    def _unanswered(self, stage: str) -> Iterator[int]:
        answered = {answer["pair_seed"] for answer in self._answers if answer["stage"] == stage}
        return (seed for seed in pair_seeds(self.seed, SPLIT) if seed not in answered)

    def _saved(self, answer: dict[str, Any]) -> str:
        """Save it, and those that could not be saved before; "" or why that failed."""
        self._unsaved.append(answer)
        try:
            append_answers(self.out, self._unsaved)
        except OSError as error:
            return f"{error}. Answers that wait to be saved with the next: {len(self._unsaved)}"
        self._unsaved.clear()
        return ""


def play_app(player: Player, stage: str) -> Starlette:
    """The page of a session, which begins with this stage.

    Raises:
        dig_env.scenes.DifficultyError: there is no such stage.
    """
    resolve_stage(stage)

    def page(request: Request) -> Response:
        first, _ = resolve_stage(request.query_params.get("stage", stage))
        return HTMLResponse(render_page("play.html", player=player, stages=STAGES, stage=first))

    def pair(request: Request) -> Response:
        return JSONResponse(player.show(request.query_params.get("stage", stage)))

    async def answer(request: Request) -> Response:
        # A page of another site can send forms here, but no JSON.
        if request.headers.get("content-type") != "application/json":
            raise ValueError("send the answer as application/json")
        try:
            given = await request.json()
            arguments = (given["stage"], int(given["pair_seed"]), given["boxes"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                'send {"stage": name, "pair_seed": number, "boxes": [[x0, y0, x1, y1], ...]}'
            ) from error
        return JSONResponse(await run_in_threadpool(player.answer, *arguments))

    return web_app(
        [
            Route("/", page),
            Route("/api/pair", pair),
            Route("/api/answer", answer, methods=["POST"]),
        ]
    )
