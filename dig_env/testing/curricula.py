"""``check_curriculum``: one script of calls is played on several curricula that are made alike."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from gymnasium import logger

from dig_env.curricula.schedules import RandomCurriculum
from dig_env.curricula.threshold import Curriculum, StageCurriculum

MEMBERS = ("stages", "mean", "history", "choose", "update", "state_dict", "load_state_dict")
"""What a ``StageCurriculum`` has; the first three are properties or attributes."""

_SAVES = 4


def check_curriculum(make: Callable[[], StageCurriculum], *, episodes: int = 600) -> None:
    """Check a curriculum against everything that ``dig_env.StageCurriculum`` asks for.

    Seeded calls of ``choose`` and ``update`` are played, with high rewards, then low ones, then
    mixed ones, for stages chosen just now, planned earlier and not the curriculum's own. Among them
    are rewards that are not finite, which must be refused, and states that are saved, and restored
    to the same further choices.

    >>> check_curriculum(lambda: Curriculum(("single", "dual"), promote_at=0.7, window=16))

    Args:
        make: makes a new one, always with the same settings.
        episodes: how many are played.

    Warns:
        It has several stages and chose only one: give it settings under which ``episodes`` is
        enough for a change, or the changes stay unchecked.

    Raises:
        AssertionError: the curriculum does not do what the protocol says.
    """
    global_random = _global_random()
    curriculum, alike = make(), make()
    assert curriculum is not alike, "make returned one object twice; it must make a new one"
    for member in MEMBERS:
        assert hasattr(curriculum, member), f"{type(curriculum).__name__} has no {member}"
    stages = curriculum.stages
    assert (
        isinstance(stages, tuple)
        and len(stages) >= 1
        and all(isinstance(stage, str) for stage in stages)
        and len(set(stages)) == len(stages)
    ), f"stages is {stages!r}; it must be a tuple of one or more different names"
    calls = _calls(stages, episodes)
    results, saved = _watched(curriculum, calls)
    assert _global_random() == global_random, (
        "the curriculum drew from, or seeded, the global generator of random or numpy.random, "
        "which others use too; give it its own generator"
    )
    # Without a look at anything but the choices: looking must not change them.
    _compare(results, [_call(alike, call) for call in calls], "one made alike and called alike")
    for state in saved:
        _check_restored(make(), calls, results, state, "a new one into which a state was loaded")
        _check_restored(curriculum, calls, results, state, "one that went back to a state")
    _check_refusals(curriculum)
    chosen = {result for call, result in zip(calls, results, strict=True) if call is None}
    if len(stages) > 1 and len(chosen) == 1:
        logger.warn(
            "the curriculum chose %r for all of %d episodes: give make settings under which the "
            "stage changes sooner, so that changes are checked too",
            chosen.pop(),
            episodes,
        )


_Call = tuple[float, str | None] | None
"""A call of ``update`` with its arguments, or None for one of ``choose``."""


def _calls(stages: Sequence[str], episodes: int) -> list[_Call]:
    """A seeded script: up to four episodes are planned ahead of the one that ends."""
    generator = random.Random(0)
    calls: list[_Call] = []
    ahead = ended = 0
    while ended < episodes:
        if not ahead or (ahead < 4 and generator.random() < 0.5):
            calls.append(None)
            ahead += 1
            continue
        low, high = ((0.8, 1.0), (0.0, 0.2), (0.0, 1.0))[3 * ended // episodes]
        known = generator.choice(stages)
        stage = generator.choice([None, None, None, known, known, known, _unknown(stages)])
        calls.append((generator.uniform(low, high), stage))
        ahead, ended = ahead - 1, ended + 1
    return calls


def _unknown(stages: Sequence[str]) -> str:
    return "not " + " or ".join(stages)


def _call(curriculum: StageCurriculum, call: _Call) -> str | None:
    try:
        return curriculum.choose() if call is None else curriculum.update(*call)
    except Exception as error:
        raise AssertionError(f"{_named(call)} raised {error!r}") from error


def _named(call: _Call) -> str:
    return "choose()" if call is None else f"update({call[0]!r}, {call[1]!r})"


_Saved = tuple[int, str, float | None, list[tuple[int, str, str]]]
"""How many calls came before; the state as JSON; the mean and the history then."""


def _watched(
    curriculum: StageCurriculum, calls: Sequence[_Call]
) -> tuple[list[str | None], list[_Saved]]:
    """What each call returns, and states saved on the way; all that a call may do is checked."""
    results: list[str | None] = []
    saved: list[_Saved] = []
    states = []
    rewards: list[float] = []
    history = _checked_history(curriculum, [], 0)
    for index, call in enumerate(calls):
        if index % (len(calls) // _SAVES + 1) == 0:
            _check_mean(curriculum.mean, rewards)
            states.append(curriculum.state_dict())
            saved.append((index, _json(states[-1]), curriculum.mean, history))
            _check_not_finite(curriculum)
        result = _call(curriculum, call)
        results.append(result)
        if call is not None:
            rewards.append(call[0])
        assert result in curriculum.stages or (call is not None and result is None), (
            f"{_named(call)} returned {result!r}; stages is {curriculum.stages!r}"
        )
        before, history = history, _checked_history(curriculum, history, len(rewards))
        entered = history[-1][2] if len(history) > len(before) else None
        assert call is None or result == entered, (
            f"{_named(call)} returned {result!r}, and the latest change in history is to "
            f"{entered!r}; it must return the stage entered, or None"
        )
        _check_mean(curriculum.mean, rewards)
    for state, (_, text, _, _) in zip(states, saved, strict=True):
        assert _json(state) == text, "a state_dict changed with the curriculum; return a copy"
    return results, saved


def _check_mean(mean: Any, rewards: Sequence[float]) -> None:
    if not rewards:
        assert mean is None, f"mean is {mean!r} before the first reward; it must be None"
    elif mean is not None:
        # Rounding may take the mean of equal rewards past them.
        is_number = isinstance(mean, Real)
        inside = is_number and min(rewards) - 1e-9 <= mean <= max(rewards) + 1e-9
        assert inside, f"mean is {mean!r}, which no rewards so far have as their mean"


def _checked_history(
    curriculum: StageCurriculum, before: list[tuple[int, str, str]], updates: int
) -> list[tuple[int, str, str]]:
    """A copy of the history, if it continues what it was before."""
    history = curriculum.history
    allowed = "a list of (episodes counted, stage left, stage entered), to which changes are added"
    assert isinstance(history, list) and history[: len(before)] == before, (
        f"history is {history!r:.300} after {before!r:.300}; it must be {allowed}"
    )
    counted = before[-1][0] if before else 0
    for entry in history[len(before) :]:
        assert (
            isinstance(entry, tuple)
            and len(entry) == 3
            and isinstance(entry[0], int)
            and counted <= entry[0] <= updates
            and {*entry[1:]} <= {*curriculum.stages}
            and entry[1] != entry[2]
        ), f"history has {entry!r} after {updates} updates; it must be {allowed}"
        counted = entry[0]
    return list(history)


def _check_not_finite(curriculum: StageCurriculum) -> None:
    """A reward that is not finite must be refused, whatever the stage, and nothing counted."""
    before = _json(curriculum.state_dict()), curriculum.mean, list(curriculum.history)
    for reward in (math.nan, math.inf, -math.inf):
        for stage in (None, *curriculum.stages, _unknown(curriculum.stages)):
            try:
                curriculum.update(reward, stage)
                found = "took it"
            except ValueError:
                found = ""
            except Exception as error:
                found = f"raised {error!r}"
            call = f"update({reward!r}, {stage!r})"
            assert not found, f"{call} {found}; a reward that is not finite is a ValueError"
            after = _json(curriculum.state_dict()), curriculum.mean, list(curriculum.history)
            assert after == before, f"{call} was refused, and yet counted"


def _json(state: Any) -> str:
    """The state as JSON, if it consists of JSON's types."""
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"state_dict() is no JSON ({error}): {state!r:.300}") from error
    assert isinstance(state, dict) and json.loads(text) == state, (
        "state_dict() does not survive JSON; it must be a dictionary of str, and hold lists in "
        f"place of tuples: {state!r:.300}"
    )
    return text


def _compare(expected: Sequence[str | None], found: Sequence[str | None], who: str) -> None:
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        assert one == other, (
            f"call {index + 1} of {len(expected)} returned {one!r}, and of {who} {other!r}: what "
            "is chosen must depend on the settings and the calls alone"
        )


def _check_restored(
    curriculum: StageCurriculum,
    calls: Sequence[_Call],
    results: Sequence[str | None],
    saved: _Saved,
    who: str,
) -> None:
    """A state that was loaded must lead to the same mean, history and further choices."""
    index, text, mean, history = saved
    state = json.loads(text)
    try:
        curriculum.load_state_dict(state)
    except Exception as error:
        raise AssertionError(f"load_state_dict refused its own state: {error!r}") from error
    for name, expected in (("mean", mean), ("history", history)):
        found = getattr(curriculum, name)
        assert found == expected, f"{name} is {found!r:.200} of {who}; it was {expected!r:.200}"
    _compare(results[index:], [_call(curriculum, call) for call in calls[index:]], who)
    assert _json(state) == text, "the state given to load_state_dict changed later; copy it"


def _check_refusals(curriculum: StageCurriculum) -> None:
    """States of another kind and of other stages must be refused, and change nothing."""
    state, stages = curriculum.state_dict(), curriculum.stages
    kind = RandomCurriculum if isinstance(curriculum, Curriculum) else Curriculum
    renamed = _renamed(state, {stage: f"not {stage}" for stage in stages})
    assert renamed != state, f"state_dict() does not name the stages: {state!r:.300}"
    strangers = {"another kind": kind(stages).state_dict(), "other stages": renamed}
    for what, stranger in strangers.items():
        try:
            curriculum.load_state_dict(stranger)
            found = "took"
        except ValueError:
            found = ""
        except Exception as error:
            found = f"raised {error!r} on"
        assert not found, f"load_state_dict {found} a state of {what}; it must raise ValueError"
        assert curriculum.state_dict() == state, (
            f"load_state_dict refused a state of {what}, and changed the curriculum; check first"
        )


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """JSON values with other names for stages, in all places."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _global_random() -> tuple[Any, ...]:
    """The state of the generators that everyone shares."""
    state: Any = np.random.get_state()  # noqa: NPY002 (it is what must not be used)
    name, keys, *rest = state
    return random.getstate(), name, keys.tobytes(), *rest
