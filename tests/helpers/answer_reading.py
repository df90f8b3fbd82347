"""What the tests of answers share: answers, and how one is read or refused."""

from dig_env.answers import parse_boxes

BOX = "[[120, 300, 210, 400]]"
BOX_UNIT = [[0.12, 0.3, 0.21, 0.4]]
OTHER = "[[500, 500, 600, 600]]"
OTHER_UNIT = [[0.5, 0.5, 0.6, 0.6]]
BOTH_UNIT = BOX_UNIT + OTHER_UNIT
SIZE = (320, 240)


def boxes_of(text: str, **frame) -> list:
    """The boxes of an answer that must be read."""
    parsed = parse_boxes(text, **frame)
    assert parsed.ok, parsed.error
    return parsed.boxes.tolist()


def refusal(text: str, **frame) -> str:
    """The error of an answer that must be refused, and refused whole."""
    parsed = parse_boxes(text, **frame)
    assert not parsed.ok and not parsed.empty
    assert parsed.boxes.shape == (0, 4)
    assert parsed.error
    return parsed.error
