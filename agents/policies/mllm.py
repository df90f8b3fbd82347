"""A policy around any Hugging Face image-text-to-text model, and the messages all of them get."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

import dig_env.agents.models as models  # which registers the compact model
from dig_env.agents.policies.image_tokens import image_tokens
from dig_env.scenes.extras import extra

with extra("train"):
    import torch
    from transformers import (
        AutoModelForImageTextToText,
        AutoProcessor,
        GenerationConfig,
        PreTrainedModel,
        ProcessorMixin,
    )

T = TypeVar("T")
Chat = tuple[list[dict[str, Any]], list[Image.Image]]
"""Messages with image slots, and what fills them."""

EMBEDDED = {
    name: Path(models.__file__).parent / "weights" / name for name in ("tiny", "tiny-start")
}
"""Where the embedded policy is, as `save_pretrained` wrote it: "tiny" after its whole training
pipeline, "tiny-start" from a warm-up that was stopped early, so that GRPO has much to improve."""


def pair_messages(prompt: str, images: int = 2) -> list[dict[str, Any]]:
    """The conversation of one pair: a user turn of the images' slots and the instruction.

    The images themselves travel beside it (TRL's `images` column, a processor's `images`).

    >>> [part["type"] for part in pair_messages("Find every difference.")[0]["content"]]
    ['image', 'image', 'text']
    """
    content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": prompt}]
    return [{"role": "user", "content": content}]


def pair_chat(observation: dict[str, Any]) -> Chat:
    """An observation of `DiG-v0` as a chat: its messages, and the images that fill their slots."""
    names = [name for name in ("image_a", "image_b") if name in observation]
    images = [Image.fromarray(observation[name]) for name in names]
    return pair_messages(observation["prompt"], len(images)), images


class MLLMPolicy:
    """Answers observations of `DiG-v0` with a multimodal language model.

    Its answers are the model's alone: greedy, or drawn at ``temperature`` from all tokens, as TRL's
    rollouts are. What else the checkpoint's generation_config asks for (a repetition penalty,
    top-p, beams) is taken out of ``model``, so that neither training nor what is saved has it.

    Args:
        model: an image-text-to-text model; it answers in evaluation mode, and is left in its own.
        processor: the processor that belongs to it.
        max_new_tokens: longest answer; a Thinking model needs thousands.
        temperature: 0 decodes greedily, anything above samples.
        batch_size: observations per call of `generate`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        batch_size: int = 8,
    ):
        if max_new_tokens < 1 or batch_size < 1 or temperature < 0:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} and batch_size={batch_size} must be at least 1, "
                f"temperature={temperature} at least 0"
            )
        self.model, self.processor = model, processor
        model.generation_config = _token_ids_of(model.generation_config)
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.batch_size = batch_size
        processor.tokenizer.padding_side = (
            "left"  # so that every answer begins where its prompt ends
        )

    @classmethod
    def from_pretrained(
        cls, path_or_name: str | Path, *, device: str = "auto", dtype: str = "auto", **settings: Any
    ) -> MLLMPolicy:
        """Load a model and its processor from a folder or from the Hugging Face hub.

        Args:
            path_or_name: a folder made by `save_pretrained`, or a hub id such as
                `"Qwen/Qwen3-VL-4B-Instruct"`.
            device: a torch device; "auto" takes a GPU where there is one.
            dtype: "float32", "bfloat16", ...; "auto" is the checkpoint's own.
            settings: of `MLLMPolicy` itself.

        Raises:
            FileNotFoundError: if there is neither such a folder nor such a hub model.
        """
        if Path(path_or_name).is_dir() and not Path(path_or_name, "config.json").exists():
            raise FileNotFoundError(_not_found(path_or_name))
        try:
            model = AutoModelForImageTextToText.from_pretrained(path_or_name, dtype=dtype)
            processor = AutoProcessor.from_pretrained(path_or_name)
        except OSError as error:
            raise FileNotFoundError(_not_found(path_or_name)) from error
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), processor, **settings)

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """One answer per observation.

        Args:
            observations: dicts with `image_a` and `image_b`, (H, W, 3) uint8 arrays, and `prompt`.
        """
        return self.answer_all(observations, pair_chat)

    @property
    def opening(self) -> str:
        """What the chat template writes of the answer itself: "<think>" of a Thinking model.

        Without it, a thought that was cut off would read as an answer.
        """
        text = self.processor.apply_chat_template(
            pair_messages("?"), add_generation_prompt=True, tokenize=False
        )
        return "<think>" if text.rstrip().endswith("<think>") else ""

    def answer_all(self, asked: Sequence[T], chat_of: Callable[[T], Chat]) -> list[str]:
        """The model's next turn in the chat that each entry makes, a batch at a time."""
        answers: list[str] = []
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            answers += self._generate([chat_of(entry) for entry in batch])
        return answers

    @torch.inference_mode()
    def _generate(self, chats: Sequence[Chat]) -> list[str]:
        """The model's next turn in each chat: messages with image slots, and what fills them."""
        texts = [
            self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            for messages, _ in chats
        ]
        images = [images for _, images in chats]
        inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        sampling: dict[str, Any] = {"do_sample": self.temperature > 0}
        if tokens := image_tokens(self.model.config):
            sampling["suppress_tokens"] = tokens
        if self.temperature > 0:
            sampling |= {"temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        with evaluation_mode(self.model):
            output = self.model.generate(
                **inputs.to(self.model.device), max_new_tokens=self.max_new_tokens, **sampling
            )
        new_tokens = output[:, inputs["input_ids"].shape[1] :]
        answers = self.processor.batch_decode(new_tokens, skip_special_tokens=True)
        return [self.opening + answer for answer in answers]


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout and gradient checkpointing off within the block; each module is left as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def load_tiny(name: str = "tiny", **settings: Any) -> MLLMPolicy:
    """The embedded policy as it ships with the package; no download.

    Args:
        name: one of `EMBEDDED`: "tiny", or "tiny-start", which GRPO starts from by default.
        settings: of `MLLMPolicy`; answers are at most 24 tokens long by default (four boxes
            take 22).
    """
    return MLLMPolicy.from_pretrained(EMBEDDED[name], **({"max_new_tokens": 24} | settings))


def _token_ids_of(config: GenerationConfig) -> GenerationConfig:
    """A generation config's special tokens, and defaults for all that alters what is answered."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    return GenerationConfig(**{name: getattr(config, name) for name in names})


def _not_found(path_or_name: str | Path) -> str:
    if Path(path_or_name).exists():
        return (
            f"{path_or_name} exists but holds no complete model; it needs config.json, the weights "
            "and the processor's files: save both with model.save_pretrained(folder) and "
            "processor.save_pretrained(folder)"
        )
    return (
        f"no model at {str(path_or_name)!r}: there is no such folder here, and the Hugging Face "
        "hub gave no model of that name. Check the path; for a hub model give its full id "
        "(such as 'Qwen/Qwen3-VL-4B-Instruct'), with network access and, if it is gated, a login; "
        "for the embedded policy use dig_env.agents.load_tiny()"
    )
