"""Whether a model thinks before it answers: its chat template says so, for all who use it.

TRL writes its prompts with the processor's template and hands vLLM the tokens; ``MLLMPolicy`` uses
the same template, and a checkpoint keeps it. So rollouts, evaluation and a later server agree.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

from dig_env.scenes.extras import extra

with extra("train"):
    from transformers import ProcessorMixin
    from transformers.models.auto.tokenization_auto import get_tokenizer_config
    from transformers.utils.chat_template_utils import render_jinja_template

_SWITCH = "enable_thinking"
"""What the templates of Qwen3 and Qwen3.5 ask whether to think; each has a default of its own."""
_SWITCHED = {
    thinks: f"{{%- set {_SWITCH} = {str(thinks).lower()} -%}}\n" for thinks in (True, False)
}
_CLOSING = "{%- if add_generation_prompt %}{{- '\\n</think>\\n\\n' }}{%- endif %}"
_OPENING = "{%- if add_generation_prompt %}{{- '<think>\\n' }}{%- endif %}"
_REQUEST = (
    "{{- '<|im_start|>system\\nFirst think about the task, then write </think>, then answer."
    "<|im_end|>\\n' }}"
)


def opening_of(template: str) -> str:
    """What a chat template writes of the answer itself: "<think>" of a Thinking model, else "".

    Trainers and ``generate`` hand over the answer without it, and a thought that was cut off would
    read as an answer.
    """
    chat = [{"role": "user", "content": "?"}]
    (prompt,), _ = render_jinja_template([chat], chat_template=template, add_generation_prompt=True)
    return "<think>" if prompt.rstrip().endswith("<think>") else ""


def opening_of_model(model: str | Path, *, download: bool = False) -> str:
    """``opening_of`` a model's template; without a template, a guess and a warning.

    The guess is by the name, as Qwen's models and their like are named: with "Thinking" in it, or
    Qwen3.5 from 4B on, whose smaller ones do not think unless told to (their model cards).

    Args:
        model: a folder, or a hub name.
        download: ask the hub; otherwise only files on this machine count.
    """
    fields, _ = ProcessorMixin.get_processor_dict(str(model), local_files_only=not download)
    if "chat_template" not in fields:
        fields = get_tokenizer_config(str(model), local_files_only=not download)
    template = fields.get("chat_template")
    if isinstance(template, str):
        return opening_of(template)
    thinks = re.search(r"thinking|qwen3\.5-(?!0\.8b|2b)", str(model).lower()) is not None
    warnings.warn(
        f"no chat template of {model} is on this machine; by its name its answers "
        f"{'open' if thinks else 'do not open'} with <think>. If that is wrong, give "
        f"{'--no-thinking (thinking=False)' if thinks else '--thinking (thinking=True)'}: the "
        "reward depends on it",
        stacklevel=2,
    )
    return "<think>" if thinks else ""


def set_thinking(processor: ProcessorMixin, thinking: bool) -> None:
    """Change a processor's chat template so that answers begin with a thought, or do not.

    A template that has the switch "enable_thinking" gets it set. A Thinking model's template opens
    every answer with "<think>". Without thinking the thought is closed at once, as Qwen3's own
    templates do it. An Instruct model's template opens none; with thinking it does, and a system
    turn says how to close it.

    Args:
        processor: of a model that speaks ChatML, as all of Qwen's do; its template has no system
            turn of its own.
        thinking: whether answers begin with a thought.

    Raises:
        ValueError: the processor has no ChatML template.
    """
    template = processor.chat_template
    if not isinstance(template, str) or "<|im_start|>" not in template:
        raise ValueError(
            f"thinking={thinking} needs a chat template of the ChatML kind ('<|im_start|>...'), "
            f"which {type(processor).__name__} does not have: leave thinking out"
        )
    if _SWITCH in template:
        for switched in _SWITCHED.values():
            template = template.removeprefix(switched)
        processor.chat_template = _SWITCHED[thinking] + template
        return
    template = template.removeprefix(_REQUEST).removesuffix(_OPENING).removesuffix(_CLOSING)
    processor.chat_template = template
    opens = bool(opening_of(template))
    if thinking and not opens:
        processor.chat_template = _REQUEST + template + _OPENING
    elif opens and not thinking:
        processor.chat_template = template + _CLOSING


if __name__ == "__main__":  # for the exports' run.sh
    print(opening_of_model(sys.argv[1], download=True))
