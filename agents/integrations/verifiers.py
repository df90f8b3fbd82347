"""DiG for verifiers: a taskset of pairs, the environment that plays it, and the reward.

verifiers (0.4 and later) finds them by the id "DiG-v0", once the package in
``environments/dig_v0`` is installed, which exports what is defined here::

    vf-eval DiG-v0 --env.taskset.dataset pairs --env.taskset.split test -n 100 --model ...

A task is one pair: one user turn with two images and the instruction, one answer. The reward
"dig" is ``dig_env.score(...).total``; its parts are recorded as metrics, which weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import verifiers.v1 as vf
from verifiers.v1.agent import Agents

from dig_env import PARTS, RewardConfig, Score, format_boxes, observe, resolve_reward
from dig_env.agents.evaluation.pairs import pair_seeds
from dig_env.agents.integrations import score_responses
from dig_env.agents.policies.messages import png_url
from dig_env.drawing import png
from dig_env.scenes import Pair, PairDataset, Renderer, RenderSettings, plan_pair, resolve_stage


class DiGData(vf.TaskData):
    """One pair as a row.

    Attributes:
        prompt: the user turn, both images inline as PNG.
        answer: the true boxes as ``format_boxes(..., exact=True)`` writes them in "norm1000".
        coordinates: frame that the prompt asks for.
        size: (width, height) of an image in pixels.
        pair_seed, stage: which pair.
    """

    answer: str
    coordinates: str
    size: tuple[int, int]
    pair_seed: int
    stage: str


class DiGTaskConfig(vf.TaskConfig):
    """How answers are scored: ``--env.taskset.task.*``."""

    reward: str | dict[str, Any] | RewardConfig = "full"
    """One of ``dig_env.REWARDS`` by name, ``dig_env.RewardConfig`` fields, or a RewardConfig."""
    opening: str = ""
    """What the chat template has already written of the answer: "<think>" for a Thinking model
    whose server does not parse its reasoning. Without it, a thought that was cut off would read
    as an answer. A reply with its reasoning in its own field needs, and gets, no opening."""


class DiGTask(vf.Task[DiGData, vf.State, DiGTaskConfig]):
    """A pair to be answered."""

    @property
    def key(self) -> str:
        """The same pair has the same key whatever the run, the image's encoding and the frame."""
        return f"{self.data.stage}-{self.data.pair_seed}"

    @vf.reward
    async def dig(self, trace: vf.Trace) -> float:
        """The reward."""
        return self._score(trace).total

    @vf.metric
    async def parts(self, trace: vf.Trace) -> dict[str, float]:
        """What the reward is made of."""
        result = self._score(trace)
        return {name: getattr(result, name) for name in PARTS}

    def _score(self, trace: vf.Trace) -> Score:
        replies = trace.assistant_messages
        answer = replies[-1].content or "" if replies else ""
        parsed = bool(replies and replies[-1].reasoning_content)
        (result,) = score_responses(
            [answer],
            [self.data.answer],
            reward=self.config.reward,
            coordinates=self.data.coordinates,
            size=self.data.size,
            opening="" if parsed else self.config.opening,
        )
        return result


class DiGConfig(vf.TasksetConfig):
    """Which pairs: ``--env.taskset.*``."""

    dataset: Path | None = None
    """Folder that ``dig-env render`` wrote: its pairs, in their order. None renders fresh pairs
    without end; bound a run with ``-n``."""
    stage: str = "single"
    """A name from ``dig_env.scenes.STAGES``; of a dataset, any stage that it has."""
    split: str = "train"
    """"train", "validation" or "test": disjoint ranges of pair seeds."""
    coordinates: str = "norm1000"
    """Frame to answer in: one of ``dig_env.COORDINATES``."""
    seed: int = 0
    """Of the draw of fresh pairs."""
    width: int = 320
    """Of fresh pairs, in pixels."""
    height: int = 240
    """Of fresh pairs, in pixels."""
    quality: str = "standard"
    """Of fresh pairs: "draft", "standard" or "high"."""
    workers: int = 1
    """Blender processes."""
    task: DiGTaskConfig = DiGTaskConfig()


class DiGTaskset(vf.Taskset[DiGTask, DiGConfig]):
    """Pairs of a dataset or, without end, of a renderer.

    Raises:
        ValueError: an unknown reward, stage or split, or a dataset without such pairs.
    """

    def __init__(self, config: DiGConfig) -> None:
        super().__init__(config)
        resolve_reward(config.task.reward)  # so that a bad one fails before a model is asked
        self.INFINITE = config.dataset is None

    def load(self) -> Iterator[DiGTask]:
        """The pairs, one at a time: each is read or rendered when it is asked for."""
        pairs = self._fresh() if self.config.dataset is None else self._stored(self.config.dataset)
        for pair in pairs:
            yield DiGTask(self._row(pair), self.config.task)

    def _stored(self, folder: Path) -> Iterator[Pair]:
        dataset = PairDataset(folder)
        return map(dataset.pair, dataset.pair_seeds(self.config.stage, self.config.split))

    def _fresh(self) -> Iterator[Pair]:
        config = self.config
        settings = RenderSettings(config.width, config.height, config.quality)
        with Renderer(settings, config.workers) as renderer:
            _, difficulty = resolve_stage(config.stage)
            seeds = pair_seeds(config.seed, config.split)
            yield from renderer.imap(plan_pair(seed, difficulty) for seed in seeds)

    def _row(self, pair: Pair) -> DiGData:
        seen = observe(pair, self.config.coordinates)
        height, width = pair.image_a.shape[:2]
        content = [
            *(_image_part(seen[name]) for name in ("image_a", "image_b")),
            vf.TextContentPart(text=seen["prompt"]),
        ]
        return DiGData(
            name=f"{self.config.stage}-{pair.plan.seed}",
            prompt=[vf.UserMessage(content=content)],
            answer=format_boxes(pair.boxes_unit, exact=True),
            coordinates=self.config.coordinates,
            size=(width, height),
            pair_seed=pair.plan.seed,
            stage=self.config.stage,
        )


class DiGHarness(vf.Harness[vf.HarnessConfig]):
    """Asks the model once, from this process: there is nothing to run in a sandbox."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Send the prompt; the endpoint adds the run's sampling and keeps the reply."""
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "system", "content": system}] if system else []
        messages += [message.model_dump() for message in prompt]
        # No time-out: a Thinking model may take minutes, and verifiers bounds the rollout itself.
        async with httpx.AsyncClient(timeout=None) as client:
            reply = await client.post(
                f"{endpoint}/chat/completions",
                headers={"Authorization": f"Bearer {secret}"},
                json={"model": ctx.model, "messages": messages},
            )
        failed = "" if reply.is_success else f"{reply.status_code}: {reply.text}"
        return vf.ProgramResult(exit_code=int(bool(failed)), stdout="", stderr=failed)


class DiGAgentsConfig(vf.EnvConfig):
    """One policy, which needs no sandbox: ``--env.agent.*``."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())


class DiGEnvironment(vf.Env[DiGAgentsConfig]):
    """One pair, one policy, one answer."""

    async def run(self, task: vf.Task, agents: Agents) -> None:
        """Let the policy answer."""
        await agents.agent.run(task)


def _image_part(pixels: np.ndarray) -> vf.ImageUrlContentPart:
    return vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url=png_url(png(pixels))))
