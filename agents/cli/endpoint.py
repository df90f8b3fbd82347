"""Models behind an endpoint on the command line, and what an evaluation says at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from dig_env.agents.cli.common import Answers
from dig_env.agents.cli.output import Output, fail
from dig_env.agents.evaluation.episodes import unreadable
from dig_env.agents.policies.kept_answers import KeptAnswers

BATCH_SIZE = 16


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. Its answers are kept beside --out as they come: the same command
    goes on after a stop, and asks again what got no answer.

    Attributes:
        base_url: of an OpenAI-compatible endpoint, such as http://localhost:8000/v1.
        api_key_env: environment variable with the endpoint's key, if it wants one.
        request: JSON object with further fields of each request; null leaves one out that is sent
            else: max_completion_tokens and temperature (0).
        concurrency: requests to the endpoint at the same time.
        price: of a million prompt tokens and of a million completion tokens.
    """

    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    request: str = "{}"
    concurrency: int = 8
    price: tuple[float, float] | None = None

    @property
    def batch_size(self) -> int:
        """Questions a call of the policy."""
        return BATCH_SIZE if self.base_url is None else 4 * self.concurrency

    def settings(self, answers: Answers) -> dict[str, Any]:
        """Arguments of ``ApiPolicy`` beside the URL, the model and what is kept."""
        return {
            "api_key_env": self.api_key_env,
            "max_tokens": 4096 if answers.max_tokens is None else answers.max_tokens,
            "request": _json_object(self.request),
            "concurrency": self.concurrency,
            "price": self.price,
        }


EndpointArgs = Annotated[Endpoint, tyro.conf.OmitArgPrefixes]


@dataclass
class Course:
    """What went wrong in an evaluation, and what is kept of it.

    Attributes:
        out: the result's file.
        output: what is printed.
        kept: answers of an endpoint.
        failed: "question" and "reason" of each that got no answer.
    """

    out: Path
    output: Output
    kept: KeptAnswers | None = None
    failed: list[dict[str, str]] = field(default_factory=list)

    def keep(self) -> KeptAnswers:
        """Where the answers of an endpoint are kept from now on."""
        self.kept = KeptAnswers(self.out.with_suffix(".answers.jsonl"))
        if len(self.kept):
            self.output.note(f"going on with {len(self.kept)} answers kept in {self.kept.path}")
        return self.kept

    def on_failure(self, name: str, reason: str) -> None:
        """A question got no answer."""
        self.failed.append({"question": name, "reason": reason})

    def findings(self, errors: Sequence[str]) -> dict[str, Any]:
        """For the result: "unreadable" and "failed"; ``errors`` as in ``unreadable``."""
        return {"unreadable": unreadable(errors), "failed": self.failed}

    def end(self, result: dict[str, Any]) -> None:
        """Say what was not answered or not read, and exit with 1 if that spoils the evaluation."""
        unread, usage = result["unreadable"], result.get("usage") or {}
        count, of = unread["answers"], unread["of"]
        if count:
            text = f"{count} of {of} answers unreadable; the commonest reason: {unread['reason']}"
            if usage.get("thought_only"):
                text += (
                    f". {usage['thought_only']} were a thought alone (reasoning_content): start "
                    "the server without its reasoning parser, or with the model's own"
                )
            fail(text) if count == of else self.output.note(text)
        if self.failed:
            assert self.kept is not None
            names = ", ".join(failure["question"] for failure in self.failed[:5])
            names += ", ..." * (len(self.failed) > 5)
            fail(
                f"{len(self.failed)} of {of + len(self.failed)} questions got no answer ({names}) "
                f"and are in no number: {self.failed[0]['reason']}. The same command asks "
                f"them again; the others are kept in {self.kept.path}"
            )
        elif self.kept is not None:
            self.kept.remove()
        if self.failed or count == of:
            sys.exit(1)


def _json_object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ValueError(f"""--request {text}: give a JSON object, such as '{{"seed": 1}}'""")
    return fields
