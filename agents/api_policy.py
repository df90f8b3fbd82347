"""A policy behind any OpenAI-compatible chat-completions endpoint that sees images.

vLLM, SGLang, llama.cpp, Ollama and the hosted services speak this protocol: one POST a pair, the
two images as data URLs, then the prompt; no streaming.
"""

from __future__ import annotations

import operator
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from types import MappingProxyType
from typing import Any

import httpx

from agents.messages import png_url
from dig_env.drawing import png

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""HTTP answers after which the same request may succeed: too early, too many, too busy."""
MAX_WAIT_S = 60.0


class ApiError(OSError):
    """The endpoint gave no answer; the message says what it said and what to do."""


class _Again(Exception):
    """This attempt failed in a way that may pass."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Usage:
    """What answers took so far; counts may be added up with ``+``.

    Attributes:
        answers: requests that were answered.
        retries: further attempts after failures that may pass.
        prompt_tokens, completion_tokens: as the endpoint counts them, thoughts included.
        uncounted: answers for which it told no counts.
        cut_off: answers that ran into the token limit.
    """

    answers: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    cut_off: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, astuple(self), astuple(other)))

    def cost(self, price: tuple[float, float]) -> float:
        """What it cost at a price for a million prompt and a million completion tokens."""
        return (self.prompt_tokens * price[0] + self.completion_tokens * price[1]) / 1e6


class ApiPolicy:
    """Answers observations of ``DiG-v0`` with a model behind an endpoint.

    Args:
        base_url: of the endpoint, such as "http://localhost:8000/v1"; "/chat/completions" is added.
        model: its name there.
        api_key_env: environment variable with the key; without it none is sent.
        max_tokens: longest answer, thoughts included.
        request: further fields of each request, such as {"reasoning_effort": "low"}. Beside model
            and messages it holds {"max_completion_tokens": max_tokens, "temperature": 0}; another
            value here replaces one of these, and None leaves it out.
        concurrency: requests at the same time.
        retries: further attempts for a request that failed in a way that may pass, with waiting
            times that double from a second on, or what the endpoint asks for.
        timeout_s: to wait for an answer.
        price: of a million prompt tokens and of a million completion tokens, in any currency.

    Attributes:
        usage: what all answers so far took.

    Raises:
        ValueError: a number is out of its range, or the URL is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        max_tokens: int = 4096,
        request: Mapping[str, Any] = MappingProxyType({}),
        concurrency: int = 8,
        retries: int = 5,
        timeout_s: float = 300.0,
        price: tuple[float, float] | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url={base_url!r}: give a URL such as http://localhost:8000/v1")
        if concurrency < 1 or max_tokens < 1 or retries < 0 or timeout_s <= 0:
            raise ValueError(
                f"concurrency={concurrency} and max_tokens={max_tokens} must be at least 1, "
                f"retries={retries} at least 0 and timeout_s={timeout_s} above 0"
            )
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.model = model
        self.usage = Usage()
        self.price = price
        fields = {"max_completion_tokens": max_tokens, "temperature": 0} | dict(request)
        self._request = {name: value for name, value in fields.items() if value is not None}
        self._api_key_env = api_key_env
        self._concurrency, self._retries, self._timeout_s = concurrency, retries, timeout_s

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """One answer per observation, thoughts included as "<think>...</think>".

        An answer that ran into the token limit before a thought was closed comes back as an open
        thought, which holds no boxes: the model may still have been thinking.

        Raises:
            ApiError: the endpoint refused a request, or kept failing.
        """
        key = os.environ.get(self._api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with (
            httpx.Client(headers=headers, timeout=self._timeout_s) as client,
            ThreadPoolExecutor(self._concurrency, thread_name_prefix="dig-env-api") as pool,
        ):
            waiting = [pool.submit(self._ask, client, o) for o in observations]
            try:
                answers = [future.result() for future in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for _, usage in answers:
            self.usage += usage
        return [text for text, _ in answers]

    def usage_json(self) -> dict[str, Any]:
        """The usage as JSON values, with "cost" where a price was given."""
        cost = {} if self.price is None else {"cost": self.usage.cost(self.price)}
        return asdict(self.usage) | cost

    def _ask(self, client: httpx.Client, observation: dict[str, Any]) -> tuple[str, Usage]:
        body = {"model": self.model, "messages": [_message(observation)], **self._request}
        for attempt in range(self._retries + 1):
            try:
                text, usage = self._attempt(client, body)
                return text, usage + Usage(retries=attempt)
            except _Again as failure:
                if attempt == self._retries:
                    raise ApiError(
                        f"{self.url} failed {attempt + 1} times, lastly so: {failure}; check the "
                        "URL, wait for the service, or lower the concurrency"
                    ) from failure
                # Spread out, or all that were refused at once come back at once.
                backoff = 2.0**attempt * random.uniform(0.5, 1.0)
                time.sleep(min(failure.wait_s or backoff, MAX_WAIT_S))
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, client: httpx.Client, body: dict[str, Any]) -> tuple[str, Usage]:
        try:
            response = client.post(self.url, json=body)
        except httpx.RequestError as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        said = response.text[:300]
        if response.status_code in RETRIED_STATUS:
            asked = response.headers.get("retry-after", "")
            raise _Again(
                f"HTTP {response.status_code}: {said}", float(asked) if asked.isdigit() else None
            )
        if response.status_code in (401, 403):
            raise ApiError(
                f"{self.url} answered HTTP {response.status_code}: {said}. Put the key into the "
                f"environment variable {self._api_key_env}, or name another one"
            )
        if response.status_code != 200:
            raise ApiError(
                f"{self.url} answered HTTP {response.status_code} for model {self.model!r}: "
                f"{said}. Check the URL, the model's name and the request's fields: "
                f"{self._request}"
            )
        try:
            return _read(response.json())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _Again(f"what came back is no chat completion: {said}") from error


def _message(observation: dict[str, Any]) -> dict[str, Any]:
    """The user's turn: both images, losslessly, then the instruction."""
    urls = [png_url(png(observation[name])) for name in ("image_a", "image_b")]
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*images, {"type": "text", "text": observation["prompt"]}]}


def _read(completion: dict[str, Any]) -> tuple[str, Usage]:
    """The answer and its tokens; one of many errors when it is no completion."""
    choice = completion["choices"][0]
    message, cut_off = choice["message"], choice.get("finish_reason") == "length"
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise TypeError(f"its content is a {type(content).__name__}, not text")
    # Where servers put a thought: vLLM and OpenRouter; older vLLM, SGLang and llama.cpp.
    thought = message.get("reasoning") or message.get("reasoning_content") or ""
    if thought and content:
        content = f"<think>{thought}</think>{content}"
    elif thought or (cut_off and "</think>" not in content):
        # Without a thought apart, its text may be one that the model's chat template opened. Marks
        # within must not close it.
        content = "<think>" + (thought or content).replace("</think>", "")
    counts = completion.get("usage") or {}
    return content, Usage(
        answers=1,
        prompt_tokens=counts.get("prompt_tokens") or 0,
        completion_tokens=counts.get("completion_tokens") or 0,
        uncounted=int("completion_tokens" not in counts),
        cut_off=int(cut_off),
    )
