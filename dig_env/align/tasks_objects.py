"""Tasks about one object: text, coordinates and crop, each from each other."""

from __future__ import annotations

import numpy as np

from dig_env.align.crops import cut_crop, fit_objects, has_twin
from dig_env.align.expressions import Expression, denoted, draw_expression, phrase
from dig_env.align.questions import (
    IMAGE,
    LETTERS,
    OBJECT,
    BoxTruth,
    ChoiceTruth,
    Question,
    Turn,
    WordsTruth,
)
from dig_env.align.settings import AlignSettings
from dig_env.align.words import ATTRIBUTES, Attributes, attributes_of, values_in
from dig_env.answers import format_boxes
from dig_env.boxes import iou_and_giou
from dig_env.observation import frame_words
from dig_env.scenes import SeenObject, View

LOCATE = (
    "Where is {it}?",
    "Find {it}.",
    "Locate {it} in the image.",
    "Point out {it}.",
)
DESCRIBE = (
    "What is {it}? Name its size, color, material and shape.",
    "Describe {it} by its size, color, material and shape.",
)
ASK: dict[str, tuple[str, ...]] = {
    "size": ("Is {it} large or small?", "Which size does {it} have, large or small?"),
    "color": ("What color is {it}?", "Which color does {it} have?"),
    "material": (
        "What is {it} made of, {materials}?",
        "What material is {it}, {materials}?",
    ),
    "shape": ("What shape is {it}?", "Which shape does {it} have?"),
}
CHOOSE = (
    "Which of these shows {it}?",
    "Which of these crops is {it}?",
    "One of these is {it}. Which?",
)


def text_to_box(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Locate what a referring expression denotes."""
    drawn = draw_target(view, rng, settings)
    if drawn is None:
        return None
    target, expression = drawn
    prompt = f"{IMAGE}\n{draw(LOCATE, rng).format(it=phrase(expression, rng))}"
    turn = Turn(prompt + box_form(view, settings), BoxTruth(view.box_unit(target)))
    return Question("text_to_box", view.image, (turn,), {"expression": expression.kind})


def box_to_text(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Name the attributes of the object in a box: all four, or one."""
    fit = fit_objects(view, settings)
    if not fit:
        return None
    target = fit[rng.integers(len(fit))]
    it = f"the object in {box_text(view, target, settings)}"
    asked, words = attribute_question(view, target, it, rng)
    turn = Turn(f"{IMAGE}\n{words}{frame_note(view, settings)}", WordsTruth(asked))
    return Question("box_to_text", view.image, (turn,), _asked_info(asked))


def crop_to_box(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Locate what a crop shows, among objects that do not look like it."""
    single = single_objects(view, settings)
    if not single:
        return None
    target = single[rng.integers(len(single))]
    words = draw(LOCATE, rng).format(it=f"this object {OBJECT}")
    prompt = f"{IMAGE}\n{words}{box_form(view, settings)}"
    turn = Turn(prompt, BoxTruth(view.box_unit(target)), (cut_crop(view, target, settings),))
    return Question("crop_to_box", view.image, (turn,))


def box_to_crop(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Choose the crop that shows the object in a box."""
    options = draw_options(view, None, rng, settings)
    if options is None:
        return None
    target = options[rng.integers(len(options))]
    it = f"the object in {box_text(view, target, settings)}"
    note = frame_note(view, settings)
    return _choice_question("box_to_crop", view, it, options, target, note, rng, settings, {})


def text_to_crop(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Choose the crop that shows what a referring expression denotes."""
    drawn = draw_target(view, rng, settings, single=True)
    if drawn is None:
        return None
    target, expression = drawn
    options = draw_options(view, target, rng, settings)
    if options is None:
        return None
    it, info = phrase(expression, rng), {"expression": expression.kind}
    return _choice_question("text_to_crop", view, it, options, target, "", rng, settings, info)


def crop_to_text(view: View, rng: np.random.Generator, settings: AlignSettings) -> Question | None:
    """Name the attributes of what a crop of the image shows: all four, or one."""
    single = single_objects(view, settings)
    if not single:
        return None
    target = single[rng.integers(len(single))]
    asked, words = attribute_question(view, target, f"this object {OBJECT}", rng)
    turn = Turn(f"{IMAGE}\n{words}", WordsTruth(asked), (cut_crop(view, target, settings),))
    return Question("crop_to_text", view.image, (turn,), _asked_info(asked))


def draw(wordings: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of several wordings."""
    return wordings[rng.integers(len(wordings))]


def draw_target(
    view: View, rng: np.random.Generator, settings: AlignSettings, single: bool = False
) -> tuple[SeenObject, Expression] | None:
    """An object that is fit, and an expression that denotes it; None if there is none.

    ``single`` leaves out objects that have a twin.
    """
    fit = single_objects(view, settings) if single else fit_objects(view, settings)
    for index in rng.permutation(len(fit)).tolist():
        expression = draw_expression(fit[index], view, rng)
        if expression is not None:
            assert denoted(expression, view) == fit[index]
            return fit[index], expression
    return None


def single_objects(view: View, settings: AlignSettings) -> list[SeenObject]:
    """The objects that are fit and that no other object of the view looks like."""
    return [seen for seen in fit_objects(view, settings) if not has_twin(view, seen)]


def draw_options(
    view: View, target: SeenObject | None, rng: np.random.Generator, settings: AlignSettings
) -> list[SeenObject] | None:
    """Objects to choose from, in random order, with ``target`` among them unless it is None.

    No two look alike or overlap by more than ``max_option_iou``. None if there are not two.
    """
    options = [] if target is None else [target]
    single = single_objects(view, settings)
    for index in rng.permutation(len(single)).tolist():
        overlaps = [iou_and_giou(single[index].box, option.box)[0] for option in options]
        if len(options) < settings.options and max(overlaps, default=0) <= settings.max_option_iou:
            options.append(single[index])
    if len(options) < 2:
        return None
    return [options[index] for index in rng.permutation(len(options)).tolist()]


def attribute_question(
    view: View,
    target: SeenObject,
    it: str,
    rng: np.random.Generator,
    names: tuple[str, ...] = (),
) -> tuple[Attributes, str]:
    """The asked attributes and the question: about all four as often as about one of them.

    ``names`` asks about one of these.
    """
    if not names and rng.random() < 0.5:
        return attributes_of(target.object), draw(DESCRIBE, rng).format(it=it)
    name = draw(names or tuple(ATTRIBUTES), rng)
    *some, last = values_in(view.family)["material"]
    materials = f"{', '.join(some)} or {last}" if some else last
    words = draw(ASK[name], rng).format(it=it, materials=materials)
    return attributes_of(target.object, [name]), words


def box_text(view: View, seen: SeenObject, settings: AlignSettings) -> str:
    """An object's box as a question names it: "[120, 300, 210, 400]"."""
    return format_boxes(view.box_unit(seen)[None], settings.coordinates, view.size)[1:-1]


def frame_note(view: View, settings: AlignSettings) -> str:
    """What the numbers of a question's boxes mean."""
    return (
        " Boxes are [x_min, y_min, x_max, y_max], in "
        f"{frame_words(settings.coordinates, view.size)}."
    )


def box_form(view: View, settings: AlignSettings) -> str:
    """How a box is to be answered."""
    return (
        " Answer with the box [[x_min, y_min, x_max, y_max]], in "
        f"{frame_words(settings.coordinates, view.size)}."
    )


def _choice_question(
    task: str,
    view: View,
    it: str,
    options: list[SeenObject],
    target: SeenObject,
    note: str,
    rng: np.random.Generator,
    settings: AlignSettings,
    info: dict[str, str],
) -> Question:
    shown = " ".join(f"({letter}) {OBJECT}" for letter in LETTERS[: len(options)])
    words = draw(CHOOSE, rng).format(it=it)
    turn = Turn(
        f"{IMAGE}\n{words} {shown} Answer with the letter.{note}",
        ChoiceTruth(options.index(target), len(options)),
        tuple(cut_crop(view, option, settings) for option in options),
    )
    return Question(task, view.image, (turn,), info | {"options": str(len(options))})


def _asked_info(asked: Attributes) -> dict[str, str]:
    return {"asked": "all" if len(asked) > 1 else next(iter(asked))}
