"""The words for objects: how attributes are said, and which words are understood.

The synonyms are CLEVR's (Johnson et al., CVPR 2017, its ``synonyms.json``), and "grey".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from dig_env.scenes import COLORS, MATERIALS, SHAPES, SIZES, SceneObject, family_named

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
"""The values of each attribute that are understood, in the order in which English says them."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "large": ("big",),
    "small": ("tiny",),
    "gray": ("grey",),
    "metal": ("shiny", "metallic"),
    "rubber": ("matte",),
    "steel": ("brushed",),
    "wood": ("wooden",),
    "checker": ("checkered",),
    "cube": ("block",),
    "sphere": ("ball",),
    "torus": ("ring", "donut"),
    "capsule": ("pill",),
}
"""Further words of a value: accepted in every answer, and now and then used in a question."""

OBJECT_WORDS = ("object", "thing")
"""What something is called whose shape is not said."""

_SYNONYM_SHARE = 0.25
"""How often a question uses a synonym: enough to learn them, with the plain word the rule."""

_MEANING = {
    word: (attribute, value)
    for attribute, values in ATTRIBUTES.items()
    for value in values
    for said in (value, *SYNONYMS.get(value, ()))
    for word in (said, said + "s")
}
_WORD = re.compile(r"[a-z]+")

Attributes = Mapping[str, str]
"""Values by attribute, any of ``ATTRIBUTES``."""


def attributes_of(obj: SceneObject, names: Iterable[str] = tuple(ATTRIBUTES)) -> Attributes:
    """An object's values of some attributes, in the order of ``ATTRIBUTES``."""
    names = set(names)
    return {name: getattr(obj, name) for name in ATTRIBUTES if name in names}


def values_in(family: str) -> dict[str, tuple[str, ...]]:
    """The values of each attribute that a family's objects may have: those that questions name.

    Raises:
        ValueError: it has shapes that have no word here, from files.
    """
    values = {name: family_named(family).values(name) for name in ATTRIBUTES}
    strange = [shape for shape in values["shape"] if shape not in SHAPES]
    if strange:
        raise ValueError(
            f"there are no words to ask about {', '.join(strange)} of family {family!r}: alignment "
            f"tasks need a family whose shapes are among {', '.join(SHAPES)}"
        )
    return values


def noun_phrase(attributes: Attributes, rng: np.random.Generator | None = None) -> str:
    """The words for some attributes, without an article.

    Args:
        attributes: see there.
        rng: draws synonyms now and then; None says the plain words.

    >>> noun_phrase({"shape": "cube", "color": "red"}), noun_phrase({"size": "large"})
    ('red cube', 'large object')
    """
    said = [_said(attributes[name], rng) for name in ATTRIBUTES if name in attributes]
    if "shape" not in attributes:
        said.append("object" if rng is None else OBJECT_WORDS[rng.integers(len(OBJECT_WORDS))])
    return " ".join(said)


def read_attributes(text: str) -> dict[str, frozenset[str]]:
    """Which values of each attribute a text names, whatever else it says. Linear in its length.

    There is no negation: "not red" names red.

    >>> read_attributes("A big, shiny BALL")["material"]
    frozenset({'metal'})
    """
    found: dict[str, set[str]] = {name: set() for name in ATTRIBUTES}
    for word in _WORD.findall(text.lower()):
        if word in _MEANING:
            attribute, value = _MEANING[word]
            found[attribute].add(value)
    return {name: frozenset(values) for name, values in found.items()}


def attribute_share(text: str, asked: Attributes) -> float:
    """The share of the asked attributes that a text gets right, 0 to 1.

    An attribute of which a text names two different values is wrong.
    """
    named = read_attributes(text)
    return sum(named[name] == {value} for name, value in asked.items()) / len(asked)


def _said(value: str, rng: np.random.Generator | None) -> str:
    others = SYNONYMS.get(value, ())
    if rng is None or not others or rng.random() >= _SYNONYM_SHARE:
        return value
    return others[rng.integers(len(others))]
