"""A second opinion on referring expressions: reads the English, and looks at the scene.

Shares no code with ``dig_env.align`` but the positions: words, grammar and geometry are spelled out
here anew, without margins. What is unique with margins must be so without them.
"""

import re

WORDS = {
    "shape": {"cube": "cube block", "sphere": "sphere ball", "cylinder": "cylinder"},
    "size": {"large": "large big", "small": "small tiny"},
    "material": {"rubber": "rubber matte", "metal": "metal metallic shiny"},
    "color": {name: name for name in ("red", "blue", "green", "brown", "purple", "cyan", "yellow")}
    | {"gray": "gray grey"},
}
SIDES = {
    r"(?:that is on the left|to the left|left) of": lambda one, other: x(one) < x(other),
    r"(?:that is on the right|to the right|right) of": lambda one, other: x(one) > x(other),
    r"in front of|that is closer to the camera than": lambda one, other: one.depth < other.depth,
    r"behind|that is farther from the camera than": lambda one, other: one.depth > other.depth,
}
EXTREMES = {
    r"the leftmost (.+)|the (.+) farthest to the left": lambda seen: x(seen),
    r"the rightmost (.+)|the (.+) farthest to the right": lambda seen: -x(seen),
    r"the (.+) (?:closest|nearest) to the camera": lambda seen: seen.depth,
    r"the (.+) (?:farthest from the camera|at the very back)": lambda seen: -seen.depth,
}


def x(seen):
    return seen.box[0] + seen.box[2]


def meant(text, view, it=None):
    """The ids of the objects that an English expression means, "it" being the object ``it``."""
    if text == "it":
        return {it.id}
    for pattern, key in EXTREMES.items():
        if match := re.fullmatch(pattern, text):
            candidates = described(next(filter(None, match.groups())), view)
            return {min(candidates, key=key).id}
    for pattern, holds in SIDES.items():
        if match := re.fullmatch(rf"the (.+?) (?:{pattern}) (the .+|it)", text):
            (anchor,) = meant(match[2], view, it)
            (other,) = (seen for seen in view.objects if seen.id == anchor)
            return {
                seen.id
                for seen in described(match[1], view)
                if seen.id != anchor and holds(seen, other)
            }
    return {seen.id for seen in described(text.removeprefix("the "), view)}


def described(noun, view):
    """The objects for which every word of a noun phrase is true."""
    return [seen for seen in view.objects if all(is_true(word, seen) for word in noun.split())]


def is_true(word, seen):
    if word in ("object", "thing"):
        return True
    for attribute, values in WORDS.items():
        for value, spellings in values.items():
            if word in spellings.split():
                return getattr(seen.object, attribute) == value
    raise AssertionError(f"no such word: {word}")
