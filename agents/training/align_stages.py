"""The supervised training stages of the compact model: parts, tasks and settings.

Settings only: nothing here imports torch, so that the command line starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dig_env.agents.training.settings import WandbMode

AlignStageName = Literal["1a", "1b", "2", "3"]
Preset = Literal["source", "tiny"]
Optimizer = Literal["adamw", "muon"]
OPTIMIZERS: tuple[Optimizer, ...] = ("adamw", "muon")

GROUNDING = ("text_to_box", "box_to_text")
"""An object as words and as coordinates."""

MULTI_SCALE = (*GROUNDING, "crop_to_box", "box_to_crop", "text_to_crop", "crop_to_text", "relation")
"""Those, and crops in every direction."""

GLOBAL = ("description", "existence", "conversation")
"""What asks about the whole image."""


NEW = "new"
"""Name of a small model with new weights."""

ALL_PARTS = ("encoders", "projector", "language_model")


@dataclass(frozen=True)
class Stage:
    """One stage of supervised training.

    Attributes:
        tasks: it learns, of ``dig_env.align.TASKS``.
        train: parts that it trains, of ``models.MODEL_PARTS``; the others are frozen.
        learning_rate: peak.
        batch_size: conversations an optimiser step, over all processes.
        epochs: times that each question is seen.
        optimizer: "adamw", or "muon" for the matrices of the decoder's layers beside it.
    """

    tasks: tuple[str, ...]
    train: tuple[str, ...]
    learning_rate: float
    batch_size: int
    epochs: float
    optimizer: Optimizer = "adamw"


ALIGN_STAGES: dict[Preset, dict[AlignStageName, Stage]] = {
    # TinyGroundingGPT (arXiv 2411.09691): the encoders, CLIP and DINOv2, stay frozen. Which of our
    # tasks stands for its image captions (1a) and its grounding data (1b) is our choice.
    "source": {
        "1a": Stage(("description",), ("projector",), 1e-3, 32, 1),
        "1b": Stage((*GROUNDING, "description"), ("projector", "language_model"), 2e-5, 32, 1),
        "2": Stage(MULTI_SCALE, ("projector", "language_model"), 2e-5, 32, 1),
        "3": Stage(GLOBAL, ("projector", "language_model"), 2e-5, 16, 2),
    },
    # A small model has never seen a word or a lone image: its encoder must learn, too. With AdamW
    # alone, looking up a place by its coordinates takes it more than three times as long; with
    # descriptions first, it cannot name colors even after all of 1b.
    "tiny": {
        "1a": Stage(("box_to_text",), ALL_PARTS, 1.5e-3, 32, 1, "muon"),
        "1b": Stage((*GROUNDING, "description"), ALL_PARTS, 1.5e-3, 16, 1, "muon"),
        "2": Stage(MULTI_SCALE, ALL_PARTS, 1e-3, 16, 1, "muon"),
        "3": Stage(GLOBAL, ALL_PARTS, 1e-3, 16, 1, "muon"),
    },
}
"""The source's stages, and those of the embedded policy's size."""


@dataclass(frozen=True)
class AlignRun:
    """Settings of one stage's training; None takes what the preset's stage says.

    Attributes:
        stage: 1a, 1b, 2 or 3.
        data: folder that dig-env questions wrote (format trl); its train split is learned.
        model: "new" for a small model that knows nothing, "tiny", "tiny-start", or the folder of a
            compact model, such as the one that the stage before left. A small model learns the
            words that are new to it.
        out: folder for the model, the losses and the checkpoints; made if absent.
        preset: "source" (CLIP, DINOv2 and a 1.5B to 3B decoder) or "tiny".
        tasks: to learn, of dig_env.align.TASKS.
        train: parts of the model: encoders, projector, language_model.
        learning_rate: its peak; it rises over warmup and falls by a cosine to 0.
        turns: questions about one image that make one conversation, at most.
        batch_size: conversations an optimiser step, over all processes.
        epochs: times that each question is seen.
        optimizer: "adamw", or "muon" (arXiv 2502.16982) for the matrices of the decoder's layers
            and AdamW for all else.
        questions: to see, whatever the epochs.
        warmup: share of the steps in which the learning rate rises.
        pairs: dataset of pairs, which dig-env render wrote, to learn differences from as well.
        pair_share: share of the conversations that are about such a pair.
        save_every: steps between checkpoints, from which a stopped run resumes; 0: none.
        seed: of the order.
        wandb: "disabled", "offline" or "online".
        trl: further settings of trl.SFTConfig, which override the above. With
            per_device_train_batch_size among them, a step's conversations go through the model in
            so many parts as that takes.
    """

    stage: AlignStageName
    data: str
    model: str
    out: str
    preset: Preset = "source"
    tasks: tuple[str, ...] | None = None
    train: tuple[str, ...] | None = None
    learning_rate: float | None = None
    turns: int = 8
    batch_size: int | None = None
    epochs: float | None = None
    optimizer: Optimizer | None = None
    questions: int | None = None
    warmup: float = 0.03
    pairs: str | None = None
    pair_share: float = 0.2
    save_every: int = 500
    seed: int = 0
    wandb: WandbMode = "disabled"
    trl: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("preset", self.preset, ALIGN_STAGES),
            ("stage", self.stage, ALIGN_STAGES["source"]),
            ("wandb", self.wandb, get_args(WandbMode)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r}: give one of {', '.join(allowed)}")
        defaults = ALIGN_STAGES[self.preset][self.stage]
        for name in ("tasks", "train", "learning_rate", "batch_size", "epochs", "optimizer"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(defaults, name))
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r}: give one of {', '.join(OPTIMIZERS)}")
        for name in ("learning_rate", "batch_size", "epochs", "questions", "turns"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value!r}: give more than 0")
        if self.save_every < 0:
            raise ValueError(f"save_every={self.save_every!r}: give 0 or more")
        for name in ("warmup", "pair_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: give 0 to below 1")
