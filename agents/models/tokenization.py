"""Tokenizer of small compact models: box lists, known sentences, and words if there are any.

Each integer 0-1000 is one token, and so are the brackets of box lists; commas between numbers are
not tokens, the decoder writes them. So `[[120, 300, 210, 400]]` is six tokens and comes back
exactly. Each sentence of the instructions is one token: a model that is trained for one
instruction need not read English. Other text is read word by word, if words are given; without
any, each other sentence is one `<unk>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

IMAGE_TOKEN = "<|image_pad|>"
OBJECT_TOKEN = "<|object_pad|>"
SPECIAL_TOKENS = ("<pad>", "<unk>", "<bos>", "<eos>", "<user>", "<assistant>", IMAGE_TOKEN)
BRACKETS = ("[[", "], [", "]]", "[", "]", "[]")
MARKS = (".", ",", ":", ";", "?", "!", "(", ")", "\n")
"""Punctuation of word-by-word text."""

SENTENCE = r"[^\W\d_][\s\S]*?(?:[.!?:](?=\s|$)|\n|$)"
"""From a letter to the sentence's end mark; the dots in `[[x_min, ...], ...]` do not end one."""

WORD = r"[^\W\d_]+(?:['-][^\W\d_]+)*"
"""Letters, with hyphens and apostrophes between them."""


def build_tokenizer(
    instructions: Sequence[str], words: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """A tokenizer for box lists, for the sentences of `instructions`, and for `words`.

    With words, text that is made of them, of integers 0-1000, brackets and `MARKS` comes back as
    it was, if it is set as usual: one space between words, none before a mark that closes or after
    one that opens, none around a line break, and neighbouring numbers only as a list, `1, 2`.

    Args:
        instructions: texts whose sentences become one token each.
        words: each as the text has it ("Where" is not "where").

    Raises:
        ValueError: something in `words` is not one word.

    >>> t = build_tokenizer(["Find every difference."])
    >>> t.decode(t.encode("[[1, 2, 3, 4], [5, 6, 7, 1000]]"))
    '[[1, 2, 3, 4], [5, 6, 7, 1000]]'
    >>> t = build_tokenizer([], ["Yes", "the", "cube", "is", "at"])
    >>> t.decode(t.encode("Yes, the cube is at [10, 20, 30, 40]."))
    'Yes, the cube is at [10, 20, 30, 40].'
    """
    words = list(dict.fromkeys(words))
    for word in words:
        if not re.fullmatch(WORD, word):
            raise ValueError(
                f"{word!r} is not a word; give letters, with hyphens or apostrophes between them"
            )
    sentences = [match.strip() for text in instructions for match in re.findall(SENTENCE, text)]
    numbers = [str(number) for number in range(1001)]
    tokens = [*SPECIAL_TOKENS, *BRACKETS, *numbers, *dict.fromkeys(sentences)]
    if words:
        tokens += [*words, *MARKS]
    vocabulary = dict.fromkeys([*tokens, OBJECT_TOKEN])
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = _pre_tokenizer(sentences, bool(words))
    backend.decoder = _decoder(bool(words))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>", IMAGE_TOKEN, OBJECT_TOKEN],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _pre_tokenizer(sentences: Sequence[str], by_word: bool) -> pre_tokenizers.PreTokenizer:
    boxes = r"\[\[|\]\]|\], \[|\[\]|\[|\]|\d+"
    if by_word:
        known = [re.escape(sentence) for sentence in sorted(sentences, key=len, reverse=True)]
        # A comma in a list of numbers is not a token.
        pieces = "|".join([*known, WORD, boxes, r"(?<!\d),|,(?! \d)", r"\n", r"[^\s,]"])
    else:
        pieces = rf"{SENTENCE}|{boxes}|[^\s,]"
    split = pre_tokenizers.Split(Regex(pieces), behavior="removed", invert=True)
    if by_word:
        return split
    trailing = pre_tokenizers.Split(Regex(r"\s+$"), behavior="removed")
    return pre_tokenizers.Sequence([split, trailing])


def _decoder(by_word: bool) -> decoders.Decoder:
    rules = [
        (r"(?<=\d) (?=\d)", ", "),
        (r"(?<=\[) | (?=\])", ""),
    ]
    if by_word:
        # A mark that is a token stands between spaces; one within a sentence's token need not.
        rules += [(r" (?=[.,:;?!)](?: |$))| (?=\n)|(?<=[(\n]) ", "")]
    spaced = [decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse()]
    return decoders.Sequence([*spaced, *(decoders.Replace(Regex(p), to) for p, to in rules)])
