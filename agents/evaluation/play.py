"""How a policy is asked: several dialogues side by side, turn by turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.policies.policy import Policy, Unanswered

T = TypeVar("T")
Reply = Callable[[Sequence[Dialogue]], list[str]]
"""``DialoguePolicy.reply``: the next text of each dialogue."""
OnFailure = Callable[[str, str], None]
"""Called with the name of a question that got no answer, and why; it counts in no metric."""


def reply_once(policy: Policy) -> Reply:
    """A policy that answers single observations, as a ``Reply`` to dialogues of one turn."""
    return lambda dialogues: policy.act([dialogue.observations[0] for dialogue in dialogues])


def play_dialogues(
    reply: Reply,
    questions: Iterable[T],
    observe: Callable[[T, int], dict[str, Any] | None],
    name: Callable[[T], str],
    *,
    batch_size: int = 16,
    on_failure: OnFailure | None = None,
) -> Iterator[tuple[T, tuple[str, ...]]]:
    """Each question with the policy's texts, one a turn, in order.

    Args:
        reply: of the policy.
        questions: what is asked about; read a batch at a time.
        observe: what a question shows in a turn, counted from 0; None after its last turn.
        name: of a question, for ``on_failure``.
        batch_size: dialogues a call of ``reply``.
        on_failure: called for a question that got no answer, which is then left out. Without it
            that is an error.

    Raises:
        ValueError: the policy gave more or fewer texts than there were dialogues.
        Unanswered: an endpoint gave no answer to any question, or to one without ``on_failure``.
    """
    stream = iter(questions)
    answered = asked = 0
    while batch := list(itertools.islice(stream, batch_size)):
        dialogues = [Dialogue([]) for _ in batch]
        going = dict(enumerate(batch))
        failed: set[int] = set()
        for turn in itertools.count():
            shown = {index: observe(question, turn) for index, question in going.items()}
            going = {index: batch[index] for index, seen in shown.items() if seen is not None}
            if not going:
                break
            for index in going:
                dialogues[index].observations.append(shown[index] or {})
            names = [name(question) for question in going.values()]
            texts = _texts(reply, [dialogues[index] for index in going], names, on_failure)
            for index, text in zip(list(going), texts, strict=True):
                if text is None:
                    failed.add(index)
                    del going[index]
                else:
                    dialogues[index].texts.append(text)
        asked += len(batch)
        answered += len(batch) - len(failed)
        for index, question in enumerate(batch):
            if index not in failed:
                yield question, tuple(dialogues[index].texts)
    if asked and not answered:
        raise Unanswered("no question got an answer")


def _texts(
    reply: Reply, dialogues: Sequence[Dialogue], names: Sequence[str], on_failure: OnFailure | None
) -> Sequence[str | None]:
    """The policy's texts; None where there is none."""
    try:
        texts: Sequence[str | None] = reply(dialogues)
    except Unanswered as error:
        if on_failure is None or not error.answers:
            raise
        for name, reason in zip(names, error.reasons, strict=True):
            if reason:
                on_failure(name, reason)
        return error.answers
    if len(texts) != len(dialogues):
        raise ValueError(
            f"the policy returned {len(texts)} answers to {len(dialogues)} questions; it must "
            "return one each"
        )
    return texts
