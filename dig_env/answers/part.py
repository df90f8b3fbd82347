"""Which part of a response is the answer: neither its thoughts, nor what stands beside its tags."""

from __future__ import annotations

import re
from collections import deque

MAX_ANSWER_LENGTH = 32_768
"""Most characters of an answer, its thoughts not counted: some 8,000 tokens, more than any honest
answer needs. It bounds the time that reading takes."""

# Marks of models and of prompts: <think>, </thinking>, <seed:think>, <|begin_of_thought|>,
# <|END_THINKING|>, [THINK], Kimi's ◁think▷, Apertus's <|inner_prefix|>, gpt-oss's
# <|channel|>analysis, Gemma's <|channel>thought and <unused94>.
_NAME = re.compile("think|thought|reasoning|analysis|scratch|draft|reflect|monologue", re.I)
_BRACKETED = ("THINK", "THOUGHT", "REASONING", "ANALYSIS", "SCRATCHPAD", "DRAFT")
# A pattern that begins with a set of characters is searched for several times as fast.
_MARK = re.compile(
    rf"[<\[◁](?:(?<!\[)(?i:\|?/?[a-z_:]{{0,12}}(?:{_NAME.pattern})\w{{0,12}}(?:\s[^<>]{{0,99}})?"
    r"(?:\|?>|▷))"
    rf"|(?<=\[)/?(?:THINKING|{'|'.join(_BRACKETED)})\]"
    r"|(?<=<)(?:\|channel\|?>\s*(?:analysis|commentary|thought|final)|channel\|>"
    r"|\|inner_(?:prefix|suffix)\|>|unused9[45]>(?:thought\b)?))"
)
_IN_EVERY_MARK = ("<", "◁", *_BRACKETED)  # one of them; most texts have none, and are read at once
_CLOSING = re.compile(r"(?:<\|?|\[|◁)(?:/|end_|channel\|>$|inner_suffix|unused95)", re.I)
_TAG = re.compile("<(/?)answer>", re.I)
_OPENING_TAG = re.compile("<answer>", re.I)


def answer_part(text: str) -> str:
    """The part of a response that counts: rules 1 and 2 of ``dig_env.answers``.

    The time is linear in the text's length.
    """
    may_be_marked = any(sign in text for sign in _IN_EVERY_MARK)
    return _in_tags(after_thoughts(text)) if may_be_marked else text


def too_long(part: str, allowed: int = MAX_ANSWER_LENGTH) -> str:
    """Why an answer's part is refused if it has more characters than are allowed, else ""."""
    if len(part) <= allowed:
        return ""
    return f"the answer has {len(part)} characters, thoughts not counted; {allowed} are allowed"


def after_thoughts(text: str) -> str:
    """What follows the last thought, up to one that is never closed.

    Thoughts nest: one that closes takes those with it that were opened within it. What closes and
    was not opened was opened by the chat template.
    """
    start, hidden, end_of_last = 0, len(text), -1
    opened: list[str] = []
    for mark in _MARK.finditer(text):
        name = _NAME.search(mark[0])
        kind = name[0].lower() if name else ""
        if mark[0].endswith("final"):
            opened, start = [], mark.end()
        elif _CLOSING.match(mark[0]):
            while opened and opened.pop() != kind:
                pass
            start = mark.end()
        elif opened[-1:] != [kind] or text[end_of_last : mark.start()].strip():
            # else the template has opened the thought and the model once more
            hidden = hidden if opened else mark.start()
            opened.append(kind)
        end_of_last = mark.end()
    return text[start : hidden if opened else len(text)]


def _in_tags(text: str) -> str:
    """What stands between the first ``<answer>`` and the last ``</answer>``, which may be missing:
    a text that ends at the tag, or is cut off."""
    opening = _OPENING_TAG.search(text)
    if opening is None:
        return text
    (last,) = deque(_TAG.finditer(text, opening.start()), maxlen=1)
    return text[opening.end() : last.start() if last[1] else len(text)]
