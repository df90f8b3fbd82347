"""Whether a model thinks before it answers: said by its chat template, which everybody follows.

TRL writes its prompts with the processor's template and hands vLLM the tokens; ``MLLMPolicy`` uses
the same template, and a checkpoint keeps it. So rollouts, evaluation and a later server agree.
"""

from __future__ import annotations

from transformers import ProcessorMixin

_CLOSING = "{%- if add_generation_prompt %}{{- '\\n</think>\\n\\n' }}{%- endif %}"
_OPENING = "{%- if add_generation_prompt %}{{- '<think>\\n' }}{%- endif %}"
_REQUEST = (
    "{{- '<|im_start|>system\\nFirst think about the task, then write </think>, then answer."
    "<|im_end|>\\n' }}"
)


def set_thinking(processor: ProcessorMixin, thinking: bool) -> None:
    """Change a processor's chat template so that answers begin with a thought, or do not.

    A Thinking model's template opens every answer with "<think>". Without thinking the thought is
    closed at once, as Qwen3's own templates do it. An Instruct model's template opens none; with
    thinking it does, and a system turn says how to close it.

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
    template = template.removeprefix(_REQUEST).removesuffix(_OPENING).removesuffix(_CLOSING)
    processor.chat_template = template
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False
    )
    opens = prompt.rstrip().endswith("<think>")
    if thinking and not opens:
        processor.chat_template = _REQUEST + template + _OPENING
    elif opens and not thinking:
        processor.chat_template = template + _CLOSING
