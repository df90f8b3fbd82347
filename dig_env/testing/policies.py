"""``check_policy``: it asks about no, one and several observations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import logger
from PIL import Image, ImageDraw

from dig_env.answers import parse_boxes
from dig_env.observation import instruction

_SIZE = (128, 96)


def check_policy(
    policy: Any,
    observations: Sequence[dict[str, Any]] | None = None,
    *,
    coordinates: str = "norm1000",
    deterministic: bool = False,
) -> None:
    """Check that a policy can be evaluated: ``act(observations) -> list[str]``.

    It is asked about no, one and several observations, and about the same one twice. It must answer
    each with one str, in order, and leave the observations as they are.

    Args:
        policy: what is checked.
        observations: two or more to ask about; None draws five pairs of flat discs, 128x96. An
            oracle must have been told of them before.
        coordinates: frame that the prompts ask for; one of ``dig_env.COORDINATES``.
        deterministic: whether the same observation must always get the same answer. Without it the
            order of the answers cannot be checked.

    Warns:
        No answer could be read by ``parse_boxes``; or, with ``deterministic``, an observation gets
        another answer alone than among others, as models do that round differently then.

    Raises:
        AssertionError: the policy does not do what is said above.
        ValueError: fewer than two observations, or unknown ``coordinates``.
    """
    asked = drawn_pairs(coordinates) if observations is None else list(observations)
    if len(asked) < 2:
        raise ValueError(f"{len(asked)} observations; give two or more")
    name = type(policy).__name__
    assert callable(getattr(policy, "act", None)), f"{name} has no method act(observations)"
    _answers(policy, [])
    alone = _answers(policy, asked[:1])
    answers = _answers(policy, asked)
    twice = _answers(policy, [asked[0], asked[1], asked[0]])
    if deterministic:
        assert _answers(policy, asked) == answers, (
            f"{name}.act gave the same observations two answers, and is said to be deterministic: "
            "decode greedily, or leave deterministic=True out"
        )
        assert _answers(policy, asked[::-1]) == answers[::-1], (
            f"{name}.act gave other answers to the same observations in reverse: the answer to "
            "each must stand in its place"
        )
        assert twice[0] == twice[2], (
            f"{name}.act gave an observation that came twice in a batch two answers, and is said "
            "to be deterministic"
        )
        if alone != answers[:1]:
            logger.warn(f"{name}.act answers an observation differently alone and among others")
    _advise_on_format(name, asked, answers, coordinates)


def drawn_pairs(coordinates: str = "norm1000") -> list[dict[str, Any]]:
    """Five observations of four discs, 128x96, one of them in another colour in image B."""
    width, height = _SIZE
    colors = ("firebrick", "seagreen", "royalblue", "goldenrod")
    observations = []
    for index in range(5):
        images = [Image.new("RGB", _SIZE, "gray") for _ in "ab"]
        for place, color in enumerate(colors):
            x, y = 8 + place % 2 * width // 2 + 4 * index, 8 + place // 2 * height // 2
            changed = "white" if place == index % 4 else color
            for image, fill in zip(images, (color, changed), strict=True):
                ImageDraw.Draw(image).ellipse((x, y, x + 24, y + 24), fill=fill)
        image_a, image_b = (np.array(image) for image in images)
        prompt = instruction(coordinates, _SIZE)
        observations.append({"image_a": image_a, "image_b": image_b, "prompt": prompt})
    return observations


def _answers(policy: Any, observations: Sequence[dict[str, Any]]) -> list[str]:
    """The policy's answers, if they are one str to each and the observations are as they were."""
    name, count = type(policy).__name__, len(observations)
    handed = [copy.deepcopy(observation) for observation in observations]
    try:
        answers = policy.act(handed)
    except Exception as error:
        raise AssertionError(f"{name}.act raised {error!r} on {count} observations") from error
    assert isinstance(answers, list) and all(isinstance(answer, str) for answer in answers), (
        f"{name}.act returned {answers!r:.200} for {count} observations; it must be a list of str"
    )
    assert len(answers) == count, (
        f"{name}.act returned {len(answers)} answers for {count} observations; it must return one "
        "each"
    )
    assert len(handed) == count and all(map(_equal, handed, observations)), (
        f"{name}.act changed the observations; it must work on copies"
    )
    return answers


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def _advise_on_format(
    name: str, observations: Sequence[dict[str, Any]], answers: Sequence[str], coordinates: str
) -> None:
    """Warn if no answer can be read."""
    for observation, answer in zip(observations, answers, strict=True):
        height, width = observation["image_a"].shape[:2]
        read = parse_boxes(answer, coordinates, (width, height))
        if read.ok or read.empty:
            return
    logger.warn(
        "none of the %d answers of %s could be read, so that they would earn 0; of the last one, "
        "%.200r: %s",
        len(answers),
        name,
        answer,
        read.error,
    )
