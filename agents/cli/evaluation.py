"""What all evaluations on the command line share: endpoints, kept answers, how they end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dig_env.agents.cli.common import Answers
from dig_env.agents.cli.output import Output, command_line, fail
from dig_env.agents.evaluation.episodes import unreadable
from dig_env.agents.policies.kept_answers import KeptAnswers
from dig_env.scenes.extras import extra

if TYPE_CHECKING:
    from dig_env.agents.policies.endpoint import ApiPolicy

BATCH_SIZE = 16


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. Its answers are kept beside --out as they come: the same command
    resumes, and asks again what got no answer.

    Attributes:
        base_url: of an OpenAI-compatible endpoint, such as http://localhost:8000/v1.
        api_key_env: environment variable with the endpoint's key, if it wants one.
        request: JSON object with further fields of each request; null leaves out a field that
            is sent by default: max_completion_tokens and temperature (0).
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
class EvaluationRun:
    """An evaluation under way: the policy, what is kept of its answers, and what failed.

    Attributes:
        policy: its name, as given.
        out: the result's file.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
        dialect: that answers are read in.
        prompt: that the policy gets.
        kept: answers that are stored as they come.
        failed: "question" and "reason" of each that got no answer.
    """

    policy: str
    out: Path
    answers: Answers
    endpoint: Endpoint
    output: Output
    dialect: str = "strict"
    prompt: str = ""
    kept: KeptAnswers | None = None
    failed: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with extra("eval"):  # what its report needs is missed now rather than at the end
            import matplotlib  # noqa: F401

    def connect(self, kind: type[ApiPolicy]) -> ApiPolicy:
        """The model behind the endpoint, whose answers are kept from now on."""
        assert self.endpoint.base_url is not None
        settings = self.endpoint.settings(self.answers)
        return kind(self.endpoint.base_url, self.policy, kept=self.keep(), **settings)

    def keep(self) -> KeptAnswers:
        """Where answers are kept from now on, with those of a run that was stopped."""
        self.kept = KeptAnswers(self.out.with_suffix(".answers.jsonl"))
        if len(self.kept):
            self.output.note(f"resuming with {len(self.kept)} answers kept in {self.kept.path}")
        return self.kept

    def on_failure(self, name: str, reason: str) -> None:
        """A question got no answer."""
        self.failed.append({"question": name, "reason": reason})

    def result(self, player: Any, fields: dict[str, Any], errors: Sequence[str]) -> dict[str, Any]:
        """The result as JSON values.

        Args:
            player: the policy.
            fields: what was measured.
            errors: why each answer could not be read; "" for those that could.
        """
        from dig_env.agents.reporting.report import machine

        return {
            "policy": self.policy,
            "command": command_line(),
            "machine": machine(),
            "usage": None if self.endpoint.base_url is None else player.usage_json(),
            **fields,
            "unreadable": unreadable(errors),
            "failed": self.failed,
        }

    def finish(self, result: dict[str, Any], **files: Path) -> None:
        """Print where the files are, and what was not answered or read; exit with 1 if that spoils
        the evaluation.

        Args:
            result: of ``result``.
            files: what lies beside ``out``.
        """
        self.output.result(result, result=self.out, **files)
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
                f"and count in no metric: {self.failed[0]['reason']}. The same command asks "
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
