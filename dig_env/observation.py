"""What a policy sees and is asked. The count and the boxes are never in it.

Of the stage the prompt says what a player must know to answer: whether nothing may differ, whether
nuisances may, and which image's boxes count where the camera moves.
"""

from __future__ import annotations

from typing import Any

from dig_env.answers.dialects import DIALECTS
from dig_env.frames import frame_size
from dig_env.scenes import Difficulty, Pair
from dig_env.scenes.arguments import one_of

_PIXELS = "pixels, the image being {width:.0f} wide and {height:.0f} high"
_STEPS = "whole numbers from 0 to {last} relative to the image width and height"
_FRAMES = {
    "norm1000": _STEPS.format(last=1000),
    "unit": "decimals from 0 to 1 relative to the image width and height",
    "pixel": _PIXELS,
    "resized_pixel": _PIXELS,
}


def frame_words(coordinates: str, size: tuple[int, int] | None = None) -> str:
    """What a prompt says of the numbers of a box, to follow "in". Same arguments and errors."""
    width, height = frame_size(coordinates, size)
    return _FRAMES[coordinates].format(width=width, height=height)


def instruction(
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
    difficulty: Difficulty = Difficulty(),
    answers: str = "strict",
) -> str:
    """The instruction that accompanies the two images.

    Args:
        coordinates: the frame to answer in, one of ``dig_env.COORDINATES``.
        size: the image's (width, height); used for frames in pixels only.
        difficulty: of the stage. The text differs for those where nothing may differ, for those
            with nuisances, and for those where the camera moves.
        answers: the dialect to answer in, one of ``dig_env.answers.DIALECTS``; those with a frame
            of their own are asked for in that.

    Raises:
        ValueError: unknown ``coordinates`` or ``answers``, or a frame in pixels without a size.
    """
    asked, frame = _asked(coordinates, size, answers)
    may_be_equal = difficulty.differences[0] == 0
    text = (
        "The two images show the same scene with "
        f"{'any number of differences or none' if may_be_equal else 'one or more differences'}. "
        "Find every difference "
        f"and answer with a list of boxes {asked}, one box around each difference, in "
        f"{frame}."
    )
    if may_be_equal:
        text += " If nothing differs, answer with the empty list []."
    if difficulty.has_nuisance:
        text += " Camera, light and image quality may differ as well, which does not count."
    if difficulty.camera_shift:
        text += (
            " Box each difference as the first image shows it, or as the second does if only that "
            "one shows it."
        )
    return text


def odd_one_out(
    coordinates: str = "norm1000", size: tuple[int, int] | None = None, answers: str = "strict"
) -> str:
    """The instruction that accompanies one image, in which one object is unlike all the others.

    Arguments and errors as for ``instruction``.
    """
    asked, frame = _asked(coordinates, size, answers)
    return (
        "The image shows copies of one object in a grid. One of them differs from all the others, "
        "in color, size, rotation, position or several of these. Find it and answer with a list of "
        f"boxes {asked}, with one box around it, in {frame}."
    )


def _asked(coordinates: str, size: tuple[int, int] | None, answers: str) -> tuple[str, str]:
    """What a prompt says of the boxes' notation, and of their numbers."""
    one_of("answers", answers, DIALECTS)
    dialect = DIALECTS[answers]
    frame = frame_words(coordinates, size)
    if dialect.own is not None:
        frame = _STEPS.format(last=dialect.own.last)
    return dialect.asked, frame


def instructions(
    coordinates: str = "norm1000", size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """Every text that ``instruction`` may give, whatever the difficulty; that of the paper's stages
    first. Same arguments and errors."""
    kinds = [
        Difficulty(differences=(least, 1), noise_levels=noise, camera_shift=shift)
        for least in (1, 0)
        for noise, shift in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    ]
    return tuple(instruction(coordinates, size, kind) for kind in kinds)


def observe(pair: Pair, coordinates: str = "norm1000", answers: str = "strict") -> dict[str, Any]:
    """The observation of a pair: "image_a" and "image_b", (H, W, 3) uint8, and "prompt", str."""
    height, width = pair.image_a.shape[:2]
    return {
        "image_a": pair.image_a.copy(),
        "image_b": pair.image_b.copy(),
        "prompt": instruction(coordinates, (width, height), pair.plan.difficulty, answers),
    }
