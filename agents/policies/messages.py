"""Parts of chat messages: pictures in requests and pages, and what a reply says."""

from __future__ import annotations

import base64
from typing import Any

# Where servers and trainers put a thought: vLLM and OpenRouter; older vLLM, SGLang, llama.cpp and
# TRL; TRL for some models.
_THOUGHT_FIELDS = ("reasoning", "reasoning_content", "thinking")
_THOUGHT_PARTS = ("thinking", "reasoning")


def png_url(file: bytes) -> str:
    """A PNG file as a data URL: an image that is part of the page or of the request."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def said_and_thought(message: dict[str, Any]) -> tuple[str, str]:
    """The text of an assistant's message, and its separate thought; "" where there is none.

    Content may be a text, a list of parts or None. Whatever else a message holds, nothing raises.

    >>> said_and_thought({"content": [{"type": "text", "text": "[]"}], "reasoning": "Hm."})
    ('[]', 'Hm.')
    """
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    said = "".join(_text(part) for part in parts if not _is_thought(part))
    thought = "".join(_text(part) for part in parts if _is_thought(part))
    for name in _THOUGHT_FIELDS:
        thought = thought or _text(message.get(name))
    return said, thought


def reply_text(said: str, thought: str) -> str:
    """One text of both, as a model writes it; a thought without an answer stays open."""
    if not thought:
        return said
    # Marks within it must not close it.
    thought = thought.replace("</think>", "").replace("<think>", "")
    return f"<think>{thought}</think>{said}" if said.strip() else f"<think>{thought}"


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _THOUGHT_PARTS


def _text(value: Any) -> str:
    """The text of a part, however it is nested."""
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, dict):
        return _text(value.get("text") or value.get("thinking") or value.get("reasoning"))
    return value if isinstance(value, str) else ""
