"""Tasks about several objects: relations, conversations, descriptions, and what is not there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from dig_env.align.crops import cut_crop, fit_objects
from dig_env.align.expressions import (
    Expression,
    phrase,
    related_expressions,
    side_phrase,
)
from dig_env.align.questions import (
    IMAGE,
    OBJECT,
    BoxTruth,
    DescriptionTruth,
    Question,
    Turn,
    WordsTruth,
    YesNoTruth,
)
from dig_env.align.relations import DIRECTIONS, RELATIONS, holds
from dig_env.align.settings import AlignSettings
from dig_env.align.tasks_objects import (
    LOCATE,
    attribute_question,
    box_form,
    box_text,
    draw,
    draw_target,
    frame_note,
    single_objects,
)
from dig_env.align.words import ATTRIBUTES, attributes_of, noun_phrase, values_in
from dig_env.observation import frame_words
from dig_env.scenes import SeenObject, View

IS_IT: dict[str, tuple[str, ...]] = {
    "left": ("Is {one} to the left of {other}?", "Is {one} left of {other}?"),
    "right": ("Is {one} to the right of {other}?", "Is {one} right of {other}?"),
    "front": ("Is {one} in front of {other}?", "Is {one} closer to the camera than {other}?"),
    "behind": ("Is {one} behind {other}?", "Is {one} farther from the camera than {other}?"),
    "larger": ("Is {one} larger than {other}?", "Is {one} bigger than {other}?"),
    "smaller": ("Is {one} smaller than {other}?",),
    "same_color": ("Does {one} have the same color as {other}?",),
    "same_shape": ("Does {one} have the same shape as {other}?",),
    "same_material": ("Is {one} made of the same material as {other}?",),
}
YES_OR_NO = " Answer yes or no."

AXIS_OF = {"left": "side", "right": "side", "front": "depth", "behind": "depth"}

KINDS = ("random", "popular", "adversarial")
"""Of questions after what is not there; see ``existence``."""

POPULAR_SHARE = 1 / 2
"""A description is popular if it holds for an object of its world with at least this times the
probability of a shape: in CLEVR, a shape, or a shape with a size or a material."""


def relation(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Say whether a relation holds between two objects that are given by crops or by boxes.

    The relation is drawn among those to which the image has an answer yes and an answer no; then
    either is as likely.
    """
    refers = draw(("box", "crop"), rng)
    fit = fit_objects(view, settings) if refers == "box" else single_objects(view, settings)
    truths: dict[str, dict[bool, list[tuple[SeenObject, SeenObject]]]] = {}
    for name in RELATIONS:
        found: dict[bool, list[tuple[SeenObject, SeenObject]]] = {True: [], False: []}
        for one, other in itertools.permutations(fit, 2):
            truth = holds(name, one, other)
            if truth is not None:
                found[truth].append((one, other))
        if found[True] and found[False]:
            truths[name] = found
    if not truths:
        return None
    name = draw(tuple(truths), rng)
    yes = bool(rng.integers(2))
    pairs = truths[name][yes]
    one, other = pairs[rng.integers(len(pairs))]
    crops: tuple[np.ndarray, ...] = ()
    if refers == "crop":
        words, note = [OBJECT, OBJECT], ""
        crops = (cut_crop(view, one, settings), cut_crop(view, other, settings))
    else:
        words = [f"the object in {box_text(view, seen, settings)}" for seen in (one, other)]
        note = frame_note(view, settings)
    asked = draw(IS_IT[name], rng).format(one=words[0], other=words[1])
    turn = Turn(f"{IMAGE}\n{asked}{YES_OR_NO}{note}", YesNoTruth(yes), crops)
    return Question("relation", view.image, (turn,), {"relation": name, "refers": refers})


def conversation(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Locate an object, then answer two or three further questions that refer back to it.

    The turns: locate an object given by words or by a crop; name an attribute of "it"; locate a
    second object by its relation to "it"; compare "the second object" with "the first one".
    Whatever was answered, these words mean the objects that were asked for, so a turn can be
    answered after a wrong one and says nothing of how right that was.
    """
    opening = _opening(view, rng, settings)
    if opening is None:
        return None
    first, expression, turn = opening
    turns = [turn]
    named = expression.attributes if not turn.crops else {}
    names = tuple(name for name in ATTRIBUTES if name not in named)
    if names:
        asked, words = attribute_question(view, first, "it", rng, names)
        turns.append(Turn(words, WordsTruth(asked)))
    others = [seen for seen in fit_objects(view, settings) if seen.id != first.id]
    related = [
        (seen, found) for seen in others for found in related_expressions(seen, view, [expression])
    ]
    if not related:
        return None
    second, found = related[rng.integers(len(related))]
    assert found.side is not None
    it = side_phrase(noun_phrase(found.attributes, rng), found.side, "it", rng)
    words = draw(("Now find {it}.", "And where is {it}?", "Next, locate {it}."), rng).format(it=it)
    turns.append(Turn(words + box_form(view, settings), BoxTruth(view.box_unit(second))))
    compared = [
        name
        for name in DIRECTIONS
        if AXIS_OF.get(name) != AXIS_OF[found.side] and holds(name, second, first) is not None
    ]
    if compared:
        name = draw(tuple(compared), rng)
        words = draw(IS_IT[name], rng).format(one="the second object", other="the first one")
        turns.append(Turn(words + YES_OR_NO, YesNoTruth(bool(holds(name, second, first)))))
    if len(turns) < 3:
        return None
    return Question("conversation", view.image, tuple(turns))


def description(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Describe every object with its box; the right answer goes from left to right.

    Only views in which all objects are fit, since every object is asked for.
    """
    if not view.objects or len(fit_objects(view, settings)) < len(view.objects):
        return None
    words = draw(
        (
            "Describe every object in the image, one a line: its size, color, material and shape",
            "List all objects in the image, one a line, each by size, color, material and shape",
        ),
        rng,
    )
    prompt = (
        f"{IMAGE}\n{words}, followed by its box [x_min, y_min, x_max, y_max], in "
        f"{frame_words(settings.coordinates, view.size)}."
    )
    ordered = sorted(view.objects, key=lambda seen: (seen.box[0] + seen.box[2], seen.id))
    objects = tuple((attributes_of(seen.object), view.box_unit(seen)) for seen in ordered)
    return Question("description", view.image, (Turn(prompt, DescriptionTruth(objects)),))


def existence(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Say whether something is in the image, after POPE (Li et al., EMNLP 2023).

    A description is some of the four attributes, such as "red cube". The kind is drawn first, then
    which attributes are named, among those by which the image has something present and something
    absent to ask after, then yes or no, each as likely: which attributes are named says nothing.
    What is present is drawn from the descriptions by these attributes that hold for some fit
    object. What is absent holds for no object at all, and is drawn

    - random: from all absent descriptions by two to four attributes.
    - popular: from the absent ones that are most common in this world: those that hold for an
      object with the probability that ``POPULAR_SHARE`` says. (POPE: the most frequent objects.)
    - adversarial: from absent ones by two or three attributes, each of which holds for some fit
      object, and all but one of them for one and the same: a red cube where a red ball and a blue
      cube stand. (POPE: what most often appears together with what is there.)
    """
    kind = draw(KINDS, rng)
    askable = []
    world = values_in(view.family)
    for names in _forms(kind, world):
        present = {_values(seen, names) for seen in fit_objects(view, settings)}
        absent = set(itertools.product(*(world[name] for name in names)))
        absent -= {_values(seen, names) for seen in view.objects}
        if kind == "adversarial" and present:
            absent = {values for values in absent if _is_near(values, present)}
        if present and absent:
            askable.append((names, sorted(present), sorted(absent)))
    if not askable:
        return None
    names, present_ones, absent_ones = askable[rng.integers(len(askable))]
    yes = bool(rng.integers(2))
    drawn = present_ones if yes else absent_ones
    values = drawn[rng.integers(len(drawn))]
    noun = noun_phrase(dict(zip(names, values, strict=True)), rng)
    wordings = (
        "Is there a {it} in the image?",
        "Does the image show a {it}?",
        "Can you see a {it} in the image?",
    )
    turn = Turn(f"{IMAGE}\n{draw(wordings, rng).format(it=noun)}{YES_OR_NO}", YesNoTruth(yes))
    return Question("existence", view.image, (turn,), {"kind": kind})


def _opening(
    view: View, rng: np.random.Generator, settings: AlignSettings
) -> tuple[SeenObject, Expression, Turn] | None:
    """A conversation's first object, an expression that denotes it, and its turn."""
    by_crop = bool(rng.integers(2))
    drawn = draw_target(view, rng, settings, single=by_crop)
    if drawn is None:
        return None
    first, expression = drawn
    it = phrase(expression, rng)
    crops: tuple[np.ndarray, ...] = ()
    if by_crop:
        # No object looks like it, so all its attributes denote it.
        expression = Expression(attributes_of(first.object))
        it, crops = f"this object {OBJECT}", (cut_crop(view, first, settings),)
    words = f"{IMAGE}\n{draw(LOCATE, rng).format(it=it)}{box_form(view, settings)}"
    return first, expression, Turn(words, BoxTruth(view.box_unit(first)), crops)


def _forms(kind: str, world: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """The sets of attributes that descriptions of a kind name, in a world of these values."""
    for count in range(1, len(world) + 1):
        for names in itertools.combinations(world, count):
            share = math.prod(1 / len(world[name]) for name in names)
            if kind == "popular":
                is_of_kind = "shape" in names and share >= POPULAR_SHARE / len(world["shape"])
            else:
                is_of_kind = 2 <= count <= (3 if kind == "adversarial" else 4)
            if is_of_kind:
                yield names


def _values(seen: SeenObject, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(getattr(seen.object, name) for name in names)


def _is_near(values: tuple[str, ...], present: set[tuple[str, ...]]) -> bool:
    """Whether each value is there, and all but one of them at once."""
    each = all(
        any(there[place] == value for there in present) for place, value in enumerate(values)
    )
    most = max(sum(map(str.__eq__, values, there)) for there in present)
    return each and most == len(values) - 1
