"""More words for a small compact model."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch

from dig_env import instruction
from dig_env.agents.models.assembly import build_model
from dig_env.agents.models.modeling import CompactForConditionalGeneration
from dig_env.agents.models.processing import CompactProcessor
from dig_env.agents.models.tokenization import SENTENCE, WORD

ANSWER_FORM = re.compile(r"Answer |.*x_min")
"""What sentences match that say in which form to answer: such a sentence is one token."""


def with_words_of(
    model: CompactForConditionalGeneration, processor: CompactProcessor, texts: Iterable[str]
) -> tuple[CompactForConditionalGeneration, CompactProcessor]:
    """A small model that knows the words of some texts too; all else is kept.

    The new tokens' embeddings and output rows are new, those of known tokens are copied.

    Args:
        model, processor: from ``build_model`` or like it, with one token a word.
        texts: prompts and answers.

    Returns:
        The given ones where every word is known, else new ones.
    """
    texts = list(dict.fromkeys(texts))
    tokenizer = processor.tokenizer
    if not any(tokenizer.unk_token_id in ids for ids in tokenizer(texts)["input_ids"]):
        return model, processor
    known = list(tokenizer.get_vocab())
    sentences = {s.strip() for text in texts for s in re.findall(SENTENCE, text)}
    forms = sorted(s for s in sentences if ANSWER_FORM.match(s))
    forms += sorted(token for token in known if " " in token and re.match(r"[^\W\d_]", token))
    for form in forms:
        texts = [text.replace(form, "") for text in texts]
    words = {word for text in texts for word in re.findall(WORD, text)}
    words |= {token for token in known if re.fullmatch(WORD, token)}
    larger, its_processor = build_model(
        [instruction(), *dict.fromkeys(forms)],
        sorted(words),
        model.config.vision_configs,
        {
            name: value
            for name, value in model.config.text_config.to_dict().items()
            if name != "vocab_size"
        },
        image_size=model.config.image_size,
    )
    _copy(model, tokenizer.get_vocab(), larger, its_processor.tokenizer.get_vocab())
    its_processor.image_processor = processor.image_processor
    return larger, its_processor


def _copy(
    model: CompactForConditionalGeneration,
    ids: dict[str, int],
    larger: CompactForConditionalGeneration,
    larger_ids: dict[str, int],
) -> None:
    """Copy all weights; of those with a row for each token, the rows of the shared tokens."""
    old = model.state_dict()
    rows = len(old["lm_head.weight"])
    shared = [token for token in larger_ids if ids.get(token, rows) < rows]
    to, at = [larger_ids[token] for token in shared], [ids[token] for token in shared]
    for name, weight in larger.state_dict().items():
        with torch.no_grad():
            if weight.shape == old[name].shape:
                weight.copy_(old[name])
            else:
                weight[to] = old[name][at]
