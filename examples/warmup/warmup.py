"""Supervised warm-up of the embedded policy on rendered pairs.

    python examples/warmup/warmup.py --pairs runs/warmup/pairs --out runs/warmup/tiny

renders the missing pairs (stop and resume at any time), then trains the answer's
tokens by cross-entropy on augmented pairs. It ends when the held-out F1 on single differences
reaches `--target-f1`, or the samples are seen. Run it again with the same --out to resume where it
stopped: what ended at 0.6, too.

In --out: `model/` (what `from_pretrained` loads), `report.html`, `log.jsonl`, `checkpoint.pt`.
"""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from batches import CAMERA, MAY_BE_EQUAL, AnswerTokens, augment, spoil, to_float
from report import mean_scores, write_warmup_report
from stored_pairs import PairArrays, load_pairs
from torch import Tensor, nn

from dig_env import Score, score
from dig_env.agents.models import CompactForConditionalGeneration, CompactProcessor, build_model
from dig_env.agents.policies.mllm import pair_messages
from dig_env.observation import instructions
from dig_env.scenes import RenderSettings, render_dataset
from dig_env.scenes.files import write_folder_whole, write_whole


@dataclass(frozen=True)
class Warmup:
    """Settings of the warm-up; every field is an option of the command.

    Attributes:
        out: folder for the model, the log and the checkpoint.
        pairs: dataset of 128x96 pairs; all of it is used.
        stages: training pairs of each stage to render, if they are missing.
        equal: share of the pairs that are shown with image A twice, so that nothing differs.
        nuisance: share whose image B gets another exposure, noise or JPEG compression.
        validation: held-out pairs of each stage to render.
        quality: render quality of the pairs.
        workers: Blender processes.
        samples: samples to see at most; the learning rate ends at 0 there.
        target_f1: stop at this held-out F1 on single pairs; inf: never.
        batch_size: pairs a step.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: AdamW's decay of matrices and kernels.
        evaluate_every: samples between evaluations, each saves a checkpoint.
        seed: seed of the initial weights, the batches and their augmentation.
        threads: CPU threads (0: all).
        device: cpu or cuda; auto: cuda where there is one.
    """

    out: str = "runs/warmup/tiny"
    pairs: str = "runs/warmup/pairs"
    stages: tuple[tuple[str, int], ...] = (("single", 6000), ("dual", 4000), ("mixed", 8000))
    equal: float = 0.0
    nuisance: float = 0.0
    validation: int = 200
    quality: str = "draft"
    workers: int = 2
    samples: int = 72_000
    target_f1: float = math.inf
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    evaluate_every: int = 4_000
    seed: int = 0
    threads: int = 0
    device: str = "auto"


class Trainer:
    """A warm-up under way: model, optimiser, position, and its files in `run.out`."""

    def __init__(self, run: Warmup):
        self.run, self.out = run, Path(run.out)
        self.device = run.device
        if run.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(run.seed)
        self.model, self.processor = build_model(instructions())
        self.model.to(self.device, memory_format=torch.channels_last)
        self.tokens = AnswerTokens(self.processor.tokenizer)
        self.prompts = Prompts(self.processor)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, run.weight_decay), betas=(0.9, 0.98)
        )
        self.samples, self.seconds = 0, 0.0
        if (self.out / "checkpoint.pt").exists():
            self._load()

    @property
    def progress(self) -> float:
        """Share of the samples that are seen, 0 to 1."""
        return min(1.0, self.samples / self.run.samples)

    @property
    def _schedule(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        names = "samples batch_size learning_rate weight_decay seed equal nuisance"
        return {name: getattr(self.run, name) for name in names.split()}

    def fit(self, train: PairArrays, held_out: PairArrays) -> dict[str, float]:
        """Train to the end and return the last evaluation."""
        losses: list[float] = []
        report: dict[str, float] = {}
        while self.progress < 1 and report.get("f1_single", 0.0) < self.run.target_f1:
            started = time.perf_counter()
            losses.append(self.step(train))
            self.seconds += time.perf_counter() - started
            due = self.samples // self.run.evaluate_every
            if due > (self.samples - self.run.batch_size) // self.run.evaluate_every:
                report = self._report(held_out, losses)
                losses = []
        return self._report(held_out, losses) if losses or not report else report

    def step(self, train: PairArrays) -> float:
        """One step on one batch; its loss."""
        # The batch follows from the seed and the position alone, so a resumed run sees the same.
        generator = torch.Generator().manual_seed(self.run.seed * 2**32 + self.samples)
        index = torch.randint(len(train), (self.run.batch_size,), generator=generator).numpy()
        seed = int(torch.randint(2**31, (), generator=generator))
        batch = spoil(train, index, self.run.equal, self.run.nuisance, seed)
        moved = torch.from_numpy(batch.kinds % MAY_BE_EQUAL == CAMERA)
        images, boxes = to_float(batch.images), torch.from_numpy(batch.boxes)
        images, boxes = (t.to(self.device) for t in augment(images, boxes, moved, generator))
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.learning_rate * one_cycle(self.progress)
        loss = self.loss(images, boxes, batch.kinds)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.samples += len(index)
        return loss.item()

    def loss(self, images: Tensor, boxes: Tensor, kinds: np.ndarray) -> Tensor:
        """Cross-entropy of the answers to (N, 2, 3, H, W) images with (N, M, 4) boxes."""
        answer = self.tokens(boxes.cpu()).to(self.device)
        prompt, mask = (part.to(self.device) for part in self.prompts(kinds))
        output = self.model.model(
            input_ids=torch.cat([prompt, answer[:, :-1]], dim=1),
            attention_mask=torch.cat([mask, torch.ones_like(answer[:, :-1])], dim=1),
            pixel_values=images.flatten(0, 1),
            use_cache=False,
        )
        logits = self.model.lm_head(output.last_hidden_state[:, prompt.shape[1] - 1 :])
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), answer.flatten(), ignore_index=self.tokens.pad
        )

    def _report(self, held_out: PairArrays, losses: list[float]) -> dict[str, float]:
        played = evaluate(self.model, self.processor, held_out)
        scores = mean_scores(played, held_out.stages)
        line = {
            "samples": self.samples,
            "minutes": round(self.seconds / 60, 2),
            "samples_per_s": round(self.samples / max(self.seconds, 1e-9), 1),
            "loss": round(float(np.mean(losses)), 4) if losses else None,
            **{name: round(value, 4) for name, value in scores.items()},
        }
        print("  ".join(f"{name} {value}" for name, value in line.items()), flush=True)
        self._save()
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        write_warmup_report(self.out, asdict(self.run), held_out, played)
        return scores

    def _save(self) -> None:
        """Write the checkpoint and the model, each whole or not at all."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "samples": self.samples,
            "seconds": self.seconds,
            "schedule": self._schedule,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.out / "checkpoint.pt", content.getvalue())
        write_folder_whole(self.out / "model", self._save_pretrained)

    def _save_pretrained(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def _load(self) -> None:
        state = torch.load(self.out / "checkpoint.pt", map_location=self.device, weights_only=True)
        if state["schedule"] != self._schedule:
            raise ValueError(
                f"{self.out} holds a run with other settings, {state['schedule']}: give those, or "
                "another --out"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.samples, self.seconds = state["samples"], state["seconds"]


def one_cycle(progress: float, rise: float = 0.1) -> float:
    """Share of the peak learning rate: up by a cosine over `rise`, then down to 0 by another.

    >>> [round(one_cycle(p), 2) for p in (0.0, 0.1, 0.55, 1.0)]
    [0.04, 1.0, 0.5, 0.0]
    """
    if progress < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / rise)) / 2
    return (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: matrices and kernels decay, vectors (norms and biases) do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


class Prompts:
    """The tokens of every instruction with two images, as `MLLMPolicy` gives them."""

    def __init__(self, processor: CompactProcessor):
        texts = [
            processor.apply_chat_template(
                pair_messages(text), add_generation_prompt=True, tokenize=False
            )
            for text in instructions()
        ]
        blank = np.zeros((96, 128, 3), np.uint8)
        images = [[blank, blank]] * len(texts)
        tokens = processor(text=texts, images=images, padding=True, return_tensors="pt")
        self.ids, self.mask = tokens["input_ids"], tokens["attention_mask"]

    def __call__(self, kinds: np.ndarray) -> tuple[Tensor, Tensor]:
        """(N, L) tokens and attention mask, without the padding that all of them have."""
        ids, mask = self.ids[kinds], self.mask[kinds]
        first = int(mask.argmax(dim=1).min())
        return ids[:, first:], mask[:, first:]


@torch.inference_mode()
def evaluate(
    model: CompactForConditionalGeneration,
    processor: CompactProcessor,
    pairs: PairArrays,
    batch_size: int = 100,
) -> list[Score]:
    """What greedy answers to the pairs earn."""
    model.eval()
    prompts = Prompts(processor)
    scores: list[Score] = []
    for start in range(0, len(pairs), batch_size):
        images = to_float(pairs.images[start : start + batch_size]).flatten(0, 1)
        prompt, mask = prompts(pairs.kinds[start : start + batch_size])
        output = model.generate(
            input_ids=prompt.to(model.device),
            attention_mask=mask.to(model.device),
            pixel_values=images.to(model.device),
            max_new_tokens=5 * pairs.boxes.shape[1] + 2,
            do_sample=False,
        )
        answers = processor.batch_decode(output[:, prompt.shape[1] :], skip_special_tokens=True)
        scores += [score(answer, pairs.boxes_of(i)) for i, answer in enumerate(answers, start)]
    model.train()
    return scores


def _print_progress(done: int, total: int) -> None:
    if done % 500 == 0:
        print(f"rendered {done} of {total} pairs", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Render what is missing, train, and say where the model is."""
    run = tyro.cli(Warmup, args=arguments)
    if run.threads:
        torch.set_num_threads(run.threads)
    print("warm-up:", json.dumps(asdict(run)), flush=True)
    settings = RenderSettings(width=128, height=96, quality=run.quality)
    for split, wanted in (
        ("train", dict(run.stages)),
        ("validation", dict.fromkeys(dict(run.stages), run.validation)),
    ):
        render_dataset(
            run.pairs, wanted, split, settings, workers=run.workers, on_pair=_print_progress
        )
    train, held_out = load_pairs(run.pairs, "train"), load_pairs(run.pairs, "validation")
    trainer = Trainer(run)
    sizes = sum(p.numel() for p in trainer.model.parameters())
    print(f"{len(train)} pairs, {len(held_out)} held out; {sizes:,} parameters", flush=True)
    report = trainer.fit(train, held_out)
    print(f"held-out F1 {report['f1_single']:.3f} on single differences: {trainer.out / 'model'}")


if __name__ == "__main__":
    main()
