"""A policy behind any OpenAI-compatible chat-completions endpoint that sees images.

vLLM, SGLang, llama.cpp, Ollama and the hosted services speak this protocol: one POST a pair, the
two images as data URLs, then the prompt; no streaming.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from dig_env.agents.policies.kept_answers import KeptAnswers
from dig_env.agents.policies.messages import png_url, reply_text, said_and_thought
from dig_env.agents.policies.policy import Unanswered
from dig_env.drawing import png
from dig_env.scenes.extras import extra

with extra("eval"):
    import httpx

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""HTTP answers after which the same request may succeed: too early, too many, too busy."""
MAX_WAIT_S = 60.0


FOR_ALL_STATUS = frozenset({401, 403, 404})
"""HTTP answers that concern the key, the URL or the model, and so every question."""
MOST_IN_A_ROW = 10
"""So many questions in a row without an answer end the asking."""


class ApiError(Unanswered):
    """The endpoint gave no answer; the message says what it said and what to do."""


class _NoAnswer(Exception):
    """To this question; another may get one."""


class _Retriable(Exception):
    """This attempt failed; another may succeed."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Usage:
    """What answers took so far; counts may be added up with ``+``.

    Attributes:
        answers: requests that were answered.
        retries: further attempts after temporary failures.
        prompt_tokens, completion_tokens: as the endpoint counts them, thoughts included.
        uncounted: answers for which it gave no counts.
        cut_off: answers that ran into the token limit.
        thought_only: whole answers that were nothing but a thought (``reasoning_content``): the
            server's reasoning parser took all of it for one.
        refused: refusals, and answers that the service's content filter held back.
        without_content: answers without any text, such as calls of tools.
    """

    answers: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    cut_off: int = 0
    thought_only: int = 0
    refused: int = 0
    without_content: int = 0

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
        retries: further attempts for a request that may yet succeed, with waiting
            times that double from a second on, or what the endpoint asks for.
        timeout_s: to wait for an answer.
        price: of a million prompt tokens and of a million completion tokens, in any currency.
        kept: where answers are kept as they come, and found again.

    Attributes:
        usage: what all answers so far took.

    Raises:
        ValueError: a number is out of its range, or the URL is not one.
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
        kept: KeptAnswers | None = None,
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
        self._kept = kept
        self._answered, self._in_a_row, self._given_up = False, 0, ""

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """One answer per observation, thoughts included as "<think>...</think>".

        An answer that ran into the token limit before a thought was closed comes back as an open
        thought, which holds no boxes: the model may still have been thinking.

        Raises:
            ApiError: some got no answer, after all others were asked, and then it holds the others'
                answers; or there is no use in asking on: the key, the URL or the model is wrong, or
                many in a row (two, where none was ever answered) got none.
        """
        return self.ask([[_message(observation)] for observation in observations])

    def ask(self, chats: Sequence[list[dict[str, Any]]]) -> list[str]:
        """One answer per chat, given as the request's messages; see ``act``."""
        answers: list[str | None] = [None] * len(chats)
        reasons = [""] * len(chats)
        self._given_up = ""
        pending = deque(enumerate(chats))
        outcomes: queue.SimpleQueue[tuple[int, tuple[str, Usage] | Exception]]
        outcomes = queue.SimpleQueue()
        for _ in range(min(self._concurrency, len(chats))):
            # Daemons, since neither Ctrl-C nor the end of the process waits for these.
            threading.Thread(target=self._work, args=(pending, outcomes), daemon=True).start()
        try:
            for _ in chats:
                index, outcome = outcomes.get()
                if isinstance(outcome, _NoAnswer):
                    reasons[index] = str(outcome)
                elif isinstance(outcome, Exception):
                    raise outcome
                else:
                    answers[index] = outcome[0]
                    self.usage += outcome[1]
        except BaseException as error:
            pending.clear()
            self._given_up = self._given_up or repr(error)
            raise
        if any(reasons):
            raise ApiError(next(filter(None, reasons)), answers, reasons)
        return [answer for answer in answers if answer is not None]

    def usage_json(self) -> dict[str, Any]:
        """The usage as JSON values, with "cost" where a price was given."""
        cost = {} if self.price is None else {"cost": self.usage.cost(self.price)}
        return asdict(self.usage) | cost

    def _work(
        self,
        pending: deque[tuple[int, list[dict[str, Any]]]],
        outcomes: queue.SimpleQueue[tuple[int, tuple[str, Usage] | Exception]],
    ) -> None:
        """Ask one chat after the other, until none is left."""
        key = os.environ.get(self._api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(headers=headers, timeout=self._timeout_s) as client:
            while True:
                try:
                    index, chat = pending.popleft()
                except IndexError:
                    return
                try:
                    outcomes.put((index, self._ask(client, chat)))
                except Exception as error:
                    outcomes.put((index, error))

    def _ask(self, client: httpx.Client, chat: list[dict[str, Any]]) -> tuple[str, Usage]:
        """A kept answer, or the endpoint's, which is kept."""
        body = {"model": self.model, "messages": chat, **self._request}
        asked = hashlib.sha256(json.dumps([self.url, body], sort_keys=True).encode()).hexdigest()
        if self._kept is not None and (found := self._kept.get(asked)):
            self._answered = True
            return found["answer"], Usage(**found["usage"])
        if self._given_up:  # while this one was waiting
            raise ApiError(self._given_up)
        try:
            answer, usage = self._retry(client, body)
        except ApiError as failure:
            self._given_up = str(failure)
            raise
        except _NoAnswer as failure:
            self._in_a_row += 1
            if self._in_a_row < (MOST_IN_A_ROW if self._answered else 2):
                raise
            self._given_up = f"{failure} ({self._in_a_row} questions in a row got no answer)"
            self._in_a_row = 0
            raise ApiError(self._given_up) from failure
        self._answered, self._in_a_row = True, 0
        if self._kept is not None:
            self._kept.add(asked, {"answer": answer, "usage": asdict(usage)})
        return answer, usage

    def _retry(self, client: httpx.Client, body: dict[str, Any]) -> tuple[str, Usage]:
        """Retry while that may help."""
        for attempt in range(self._retries + 1):
            try:
                text, usage = self._attempt(client, body)
                return text, usage + Usage(retries=attempt)
            except _Retriable as failure:
                if attempt == self._retries or self._given_up:
                    raise _NoAnswer(
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
            raise _Retriable(f"{type(error).__name__}: {error}") from error
        said = response.text[:300]
        if response.status_code in RETRIED_STATUS:
            asked = response.headers.get("retry-after", "")
            raise _Retriable(
                f"HTTP {response.status_code}: {said}", float(asked) if asked.isdigit() else None
            )
        if response.status_code in (401, 403):
            raise ApiError(
                f"{self.url} answered HTTP {response.status_code}: {said}. Put the key into the "
                f"environment variable {self._api_key_env}, or name another one"
            )
        if response.status_code != 200:
            refusal = ApiError if response.status_code in FOR_ALL_STATUS else _NoAnswer
            raise refusal(
                f"{self.url} answered HTTP {response.status_code} for model {self.model!r}: "
                f"{said}. Check the URL, the model's name and the request's fields: "
                f"{self._request}"
            )
        try:
            return _read(response.json())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise _Retriable(f"what came back is no chat completion: {said}") from error


def filled(messages: list[dict[str, Any]], images: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Messages as a request has them: each image slot holds the next image, losslessly.

    Args:
        messages: with content in parts; {"type": "image"} is a slot.
        images: (H, W, 3) uint8, as many as slots.
    """
    left = iter(images)
    return [
        message
        | {
            "content": [
                {"type": "image_url", "image_url": {"url": png_url(png(next(left)))}}
                if part["type"] == "image"
                else part
                for part in message["content"]
            ]
        }
        for message in messages
    ]


def _message(observation: dict[str, Any]) -> dict[str, Any]:
    """The user's turn: the images, then the instruction."""
    images = [observation[name] for name in ("image_a", "image_b") if name in observation]
    text = {"type": "text", "text": observation["prompt"]}
    turn = {"role": "user", "content": [*({"type": "image"} for _ in images), text]}
    return filled([turn], images)[0]


def _read(completion: dict[str, Any]) -> tuple[str, Usage]:
    """The answer and its tokens; one of many errors when it is no completion."""
    choice = completion["choices"][0]
    message, why = choice["message"], choice.get("finish_reason")
    if why == "error" or choice.get("error"):
        raise ValueError(f"the choice holds an error: {choice.get('error')}")
    if not isinstance(message.get("content"), (str, list, type(None))):
        raise TypeError(f"its content is a {type(message['content']).__name__}, not text")
    cut_off = why == "length"
    said, thought = said_and_thought(message)
    if cut_off and not thought and "</think>" not in said:
        # It may be a thought that the model's chat template opened.
        said, thought = "", said
    refused = not said and (bool(message.get("refusal")) or why == "content_filter")
    counts = completion.get("usage") or {}
    return reply_text(said, thought), Usage(
        answers=1,
        prompt_tokens=counts.get("prompt_tokens") or 0,
        completion_tokens=counts.get("completion_tokens") or 0,
        uncounted=int("completion_tokens" not in counts),
        cut_off=int(cut_off),
        thought_only=int(bool(thought) and not said.strip() and not cut_off),
        refused=int(refused),
        without_content=int(not (said or thought or refused)),
    )
