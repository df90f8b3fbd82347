"""Referring expressions: what they mean, which of them denote an object, and how they are said.

An expression is a value; ``denoted`` evaluates it on a view, ``expressions_for`` finds those that
denote an object, ``phrase`` puts one in words. Neither of the latter two is trusted to be right:
what is handed out has been evaluated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dig_env.align.relations import holds
from dig_env.align.words import ATTRIBUTES, Attributes, attributes_of, noun_phrase
from dig_env.scenes import SeenObject, View

SIDES: tuple[str, ...] = ("left", "right", "front", "behind")
"""Relations by which an expression refers to another object."""

EXTREMES: dict[str, str] = {
    "leftmost": "left",
    "rightmost": "right",
    "nearest": "front",
    "farthest": "behind",
}
"""Superlatives, and the relation that the denoted object has to every other one that is meant."""

MAX_ATTRIBUTES = 2
"""Attributes that an expression with a relation or a superlative names at most, for each object."""


@dataclass(frozen=True)
class Expression:
    """ "The [attributes] object [that is ``side`` of ``anchor``]", or "the ``extreme`` ...".

    Attributes:
        attributes: what is said of the object itself; maybe nothing.
        side: one of ``SIDES``, or None. Needs an ``anchor``.
        anchor: the object that ``side`` relates to.
        extreme: one of ``EXTREMES``, or None. Not beside ``side``.
    """

    attributes: Attributes = field(default_factory=dict)
    side: str | None = None
    anchor: Expression | None = None
    extreme: str | None = None

    @property
    def kind(self) -> str:
        """What it refers by: "attributes", "relation" or "superlative"."""
        return "relation" if self.side else "superlative" if self.extreme else "attributes"


def denoted(expression: Expression, view: View) -> SeenObject | None:
    """The one object that an expression denotes in a view.

    Returns:
        None when it denotes none, several, or when a relation is too close to call for any of the
        objects that may be meant.
    """
    meant = [seen for seen in view.objects if _matches(expression.attributes, seen)]
    if expression.side and expression.anchor:
        anchor = denoted(expression.anchor, view)
        if anchor is None:
            return None
        meant = [seen for seen in meant if seen.id != anchor.id]
        truths = [holds(expression.side, seen, anchor) for seen in meant]
    elif expression.extreme:
        relation = EXTREMES[expression.extreme]
        # Only an object that is beyond all others by a margin is the extreme one, so that one at
        # most is; where none is, the expression is too close to call.
        truths = [
            all(holds(relation, seen, other) for other in meant if other.id != seen.id)
            for seen in meant
        ]
    else:
        truths = [True] * len(meant)
    if None in truths or truths.count(True) != 1:
        return None
    return meant[truths.index(True)]


def expressions_for(target: SeenObject, view: View, kind: str) -> list[Expression]:
    """All expressions of a kind that denote an object and say no more than it takes.

    Args:
        target: the object.
        view: where it is seen.
        kind: "attributes": as few as denote it, or one more; "relation" and "superlative": of
            objects that the attributes alone leave open.
    """
    if kind == "attributes":
        found = [Expression(attributes) for attributes in _descriptions(target, len(ATTRIBUTES))]
        found = [expression for expression in found if denoted(expression, view) == target]
        shortest = min((len(expression.attributes) for expression in found), default=0)
        return [each for each in found if len(each.attributes) <= shortest + 1]
    if kind == "relation":
        return related_expressions(target, view, _anchors(target, view))
    if kind != "superlative":
        raise ValueError(f"kind={kind!r}: give attributes, relation or superlative")
    candidates = [
        Expression(attributes, extreme=extreme)
        for attributes in _open_descriptions(target, view)
        for extreme in EXTREMES
    ]
    return [expression for expression in candidates if denoted(expression, view) == target]


def related_expressions(
    target: SeenObject, view: View, anchors: Sequence[Expression]
) -> list[Expression]:
    """All expressions that denote an object by its relation to another one.

    Args:
        target: the object.
        view: where it is seen.
        anchors: what may denote the other one.
    """
    candidates = [
        Expression(attributes, side=side, anchor=anchor)
        for attributes, anchor in itertools.product(_open_descriptions(target, view), anchors)
        for side in SIDES
    ]
    return [expression for expression in candidates if denoted(expression, view) == target]


def draw_expression(target: SeenObject, view: View, rng: np.random.Generator) -> Expression | None:
    """One expression that denotes an object; its kind is drawn first. None if there is none."""
    for kind in rng.permutation(["attributes", "relation", "superlative"]).tolist():
        found = expressions_for(target, view, kind)
        if found:
            return found[rng.integers(len(found))]
    return None


def phrase(expression: Expression, rng: np.random.Generator | None = None) -> str:
    """An expression in words, beginning with "the".

    Args:
        expression: see there.
        rng: draws a wording; None takes the first, with the plain words.

    >>> cube = Expression({"color": "red", "shape": "cube"})
    >>> phrase(Expression({"size": "small"}, side="left", anchor=cube))
    'the small object to the left of the red cube'
    """
    noun = noun_phrase(expression.attributes, rng)
    if expression.side and expression.anchor:
        return side_phrase(noun, expression.side, phrase(expression.anchor, rng), rng)
    if expression.extreme:
        wordings = _EXTREME_WORDINGS[expression.extreme]
        return _drawn(wordings, rng).format(noun=noun)
    return f"the {noun}"


def side_phrase(noun: str, side: str, anchor: str, rng: np.random.Generator | None = None) -> str:
    """ "the [noun] to the left of [anchor]", in one of several wordings."""
    return _drawn(_SIDE_WORDINGS[side], rng).format(noun=noun, anchor=anchor)


_SIDE_WORDINGS: dict[str, tuple[str, ...]] = {
    "left": (
        "the {noun} to the left of {anchor}",
        "the {noun} left of {anchor}",
        "the {noun} that is on the left of {anchor}",
    ),
    "right": (
        "the {noun} to the right of {anchor}",
        "the {noun} right of {anchor}",
        "the {noun} that is on the right of {anchor}",
    ),
    "front": (
        "the {noun} in front of {anchor}",
        "the {noun} that is closer to the camera than {anchor}",
    ),
    "behind": (
        "the {noun} behind {anchor}",
        "the {noun} that is farther from the camera than {anchor}",
    ),
}
_EXTREME_WORDINGS: dict[str, tuple[str, ...]] = {
    "leftmost": ("the leftmost {noun}", "the {noun} farthest to the left"),
    "rightmost": ("the rightmost {noun}", "the {noun} farthest to the right"),
    "nearest": ("the {noun} closest to the camera", "the {noun} nearest to the camera"),
    "farthest": ("the {noun} farthest from the camera", "the {noun} at the very back"),
}


def _drawn(wordings: tuple[str, ...], rng: np.random.Generator | None) -> str:
    return wordings[0 if rng is None else rng.integers(len(wordings))]


def _matches(attributes: Attributes, seen: SeenObject) -> bool:
    return all(getattr(seen.object, name) == value for name, value in attributes.items())


def _descriptions(seen: SeenObject, most: int) -> Iterator[Attributes]:
    """All true descriptions of an object by 1 to ``most`` attributes."""
    for count in range(1, most + 1):
        for names in itertools.combinations(ATTRIBUTES, count):
            yield attributes_of(seen.object, names)


def _open_descriptions(target: SeenObject, view: View) -> list[Attributes]:
    """Short descriptions that are true of an object and of another one too."""
    return [
        attributes
        for attributes in ({}, *_descriptions(target, MAX_ATTRIBUTES))
        if sum(_matches(attributes, seen) for seen in view.objects) > 1
    ]


def _anchors(target: SeenObject, view: View) -> list[Expression]:
    """Short descriptions of each other object that denote it."""
    anchors = []
    for seen in view.objects:
        if seen.id == target.id:
            continue
        for attributes in _descriptions(seen, MAX_ATTRIBUTES):
            if denoted(Expression(attributes), view) == seen:
                anchors.append(Expression(attributes))
    return anchors
