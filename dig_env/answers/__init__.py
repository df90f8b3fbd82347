"""What an answer says: from a policy's text to boxes in the unit frame, and back.

Which text counts (``part``):

1. What follows the last thought. A thought stands between marks such as ``<think>``, ``[THINK]`` or
   ``<|channel|>analysis``; one that is never closed hides the rest.
2. Within that, what stands in ``<answer>...</answer>``, if such a tag is opened.

No more than ``MAX_ANSWER_LENGTH`` characters of it are read.

How it is read is the dialect's to say (``dialects``). ``strict``, the one of rewards, reads the
whole answer, or refuses it and says why. Then all boxes must be valid, or the answer is worth
nothing: four finite numbers (no strings, no booleans, no lists) that keep an area above zero when
clamped to the image. So a box that leaves the image is cut at its edge, and one that is inverted,
flat or wholly outside is invalid. A number too large for a float reads as infinity, hence as
invalid. Boxes may repeat; each counts. Numbers are never guessed to be of another frame than the
one asked for.
"""

from dig_env.answers.dialects import DIALECTS, habit_of
from dig_env.answers.part import MAX_ANSWER_LENGTH, after_thoughts, answer_part, too_long
from dig_env.answers.read import ParsedAnswer, parse_boxes, read_boxes, read_part, refused
from dig_env.answers.write import format_boxes

__all__ = [
    "DIALECTS",
    "MAX_ANSWER_LENGTH",
    "ParsedAnswer",
    "after_thoughts",
    "answer_part",
    "format_boxes",
    "habit_of",
    "parse_boxes",
    "read_boxes",
    "read_part",
    "refused",
    "too_long",
]
