"""What each alignment task asks, on planned scenes that nobody has to render."""

import itertools
import math
import re
from functools import cache

import numpy as np
import pytest
from expression_reader import meant
from synthetic_views import synthetic_view

from dig_env import parse_boxes
from dig_env.align import TASKS, AlignSettings, grade, pose, resolve_tasks, write_answer
from dig_env.align.crops import cut_crop, fit_objects, has_twin
from dig_env.align.questions import LETTERS, BoxTruth, DescriptionTruth, WordsTruth, YesNoTruth
from dig_env.align.relations import holds
from dig_env.align.tasks_scene import KINDS
from dig_env.align.words import ATTRIBUTES, read_attributes, values_in
from dig_env.boxes import iou_and_giou
from dig_env.scenes import STAGES, Difficulty, plan_pair, view_of

SETTINGS = AlignSettings("unit", crop_px=32)
SEEDS = range(80)


@cache
def view_of_seed(seed):
    return synthetic_view(plan_pair(seed, STAGES["mixed"]))


@cache
def asked(task, settings=SETTINGS, repeats=3):
    """(view, question) of many views."""
    found = []
    for seed, draw in itertools.product(SEEDS, range(repeats)):
        view = view_of_seed(seed)
        question = TASKS[task](view, np.random.default_rng([seed, draw]), settings)
        if question is not None:
            found.append((view, question))
    assert len(found) > len(SEEDS) / 2
    return found


def object_at(view, box):
    """The object whose box this is."""
    (seen,) = (seen for seen in view.objects if np.allclose(view.box_unit(seen), box, atol=6e-4))
    return seen


def boxes_in(prompt):
    return [parse_boxes(f"[{box}]", "unit").boxes[0] for box in re.findall(r"\[[\d., ]+\]", prompt)]


# All tasks


@pytest.mark.parametrize("task", TASKS)
def test_a_question_is_shown_in_slots_that_its_pictures_fill(task):
    for view, question in asked(task):
        assert question.task == task
        np.testing.assert_array_equal(question.image, view.image)
        for index, turn in enumerate(question.turns):
            assert turn.prompt.count("<image>") == (index == 0)
            assert turn.prompt.startswith("<image>\n") == (index == 0)
            assert turn.prompt.count("<object>") == len(turn.crops)
            assert all(crop.shape == (32, 32, 3) for crop in turn.crops)
            assert turn.prompt.isascii()
            assert len(turn.prompt) <= 1024


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("coordinates", ["norm1000", "unit", "pixel"])
def test_the_right_answer_earns_everything_and_the_taught_one_nearly(task, coordinates):
    settings = AlignSettings(coordinates, crop_px=32)
    for seed in range(10):
        question = TASKS[task](view_of_seed(seed), np.random.default_rng(seed), settings)
        if question is None:
            continue
        for turn in question.turns:
            exact = write_answer(turn.truth, coordinates, question.size, exact=True)
            assert grade(exact, turn.truth, coordinates, question.size).reward == pytest.approx(1)
            taught = write_answer(turn.truth, coordinates, question.size)
            graded = grade(taught, turn.truth, coordinates, question.size)
            assert graded.right
            assert graded.reward > 0.9


@pytest.mark.parametrize("task", TASKS)
def test_equal_draws_ask_the_same_and_others_something_else(task):
    prompts = []
    for draw in (1, 1, 2, 3, 4, 5):
        rng = np.random.default_rng(draw)
        prompts.append([turn.prompt for turn in TASKS[task](view_of_seed(2), rng, SETTINGS).turns])
    assert prompts[0] == prompts[1]
    assert len({str(prompt) for prompt in prompts}) > 1


@pytest.mark.parametrize("task", TASKS)
def test_a_view_of_nothing_that_is_fit_gives_nothing_to_ask(task):
    none_is_fit = AlignSettings(min_area=0.9, max_area=1.0)
    for draw in range(10):
        assert TASKS[task](view_of_seed(2), np.random.default_rng(draw), none_is_fit) is None


def test_what_is_asked_about_is_neither_tiny_nor_hidden():
    strict = AlignSettings("unit", min_area=0.01, max_area=0.05, min_shown=0.9)
    for view, question in asked("text_to_box", strict):
        seen = object_at(view, question.turns[0].truth.box)
        x0, y0, x1, y1 = seen.box
        assert 0.01 <= (x1 - x0) * (y1 - y0) / view.ids.size <= 0.05
        assert seen.shown >= 0.9


# Objects


def test_an_expression_leads_to_its_box():
    wordings = set()
    for view, question in asked("text_to_box"):
        prompt = question.turns[0].prompt
        expression = re.search(r"\n.*?(the .+?)(?: in the image)?[.?] Answer", prompt)[1]
        wordings.add(prompt.split(" the ")[0])
        assert meant(expression, view) == {object_at(view, question.turns[0].truth.box).id}
    assert len(wordings) == 4


@pytest.mark.parametrize("task", ["box_to_text", "crop_to_text"])
def test_the_asked_attributes_are_those_of_the_object(task):
    asked_for = set()
    for view, question in asked(task):
        (turn,) = question.turns
        asked_for.add(question.info["asked"])
        if task == "box_to_text":
            seen = object_at(view, boxes_in(turn.prompt)[0])
        else:
            seen = object_of_crop(view, turn.crops[0])
        names = list(turn.truth.attributes)
        assert names == (
            list(ATTRIBUTES) if question.info["asked"] == "all" else [question.info["asked"]]
        )
        assert all(getattr(seen.object, name) == turn.truth.attributes[name] for name in names)
        assert all(name in turn.prompt for name in names if name not in ("material", "size"))
    assert asked_for == {"all", *ATTRIBUTES}


def object_of_crop(view, crop, settings=SETTINGS):
    """The object that a crop shows: by its pixels."""
    matching = [s for s in view.objects if np.array_equal(cut_crop(view, s, settings), crop)]
    assert len(matching) == 1
    return matching[0]


def test_a_crop_leads_to_its_box_and_to_no_other():
    for view, question in asked("crop_to_box"):
        seen = object_of_crop(view, question.turns[0].crops[0])
        assert seen == object_at(view, question.turns[0].truth.box)
        look = ("color", "material", "shape")
        same = [
            other
            for other in view.objects
            if all(getattr(other.object, name) == getattr(seen.object, name) for name in look)
        ]
        assert same == [seen], "size does not tell enlarged crops apart"


@pytest.mark.parametrize("task", ["box_to_crop", "text_to_crop"])
def test_one_option_is_right_and_none_looks_like_it(task):
    settings = AlignSettings("unit", crop_px=32, max_option_iou=0.05)
    places, counts = set(), set()
    for view, question in asked(task, settings):
        (turn,) = question.turns
        options = [object_of_crop(view, crop, settings) for crop in turn.crops]
        places.add(turn.truth.index)
        counts.add(len(options))
        assert question.info["options"] == str(len(options)) == str(turn.truth.options)
        assert all(f"({letter}) <object>" in turn.prompt for letter in LETTERS[: len(options)])
        for one, other in itertools.combinations(options, 2):
            assert iou_and_giou(one.box, other.box)[0] <= 0.05
        assert not any(has_twin(view, option) for option in options)
        target = options[turn.truth.index]
        if task == "box_to_crop":
            assert object_at(view, boxes_in(turn.prompt)[0]) == target
        else:
            text = re.search(r"(the .+?)(?:\?|\. Which\?) \(A\)", turn.prompt)[1]
            assert meant(text, view) == {target.id}
    assert places == {0, 1, 2, 3}
    assert counts == {2, 3, 4}


def test_a_crop_is_its_box_with_context_padded_to_a_square():
    ids = np.zeros((40, 60), np.uint8)
    ids[10:30, 25:35] = 1  # twice as high as wide
    image = np.repeat(np.where(ids == 1, 200, 50).astype(np.uint8)[..., None], 3, axis=-1)
    plan = plan_pair(1, Difficulty(objects=(1, 1), changes=("color",)))
    view = view_of(image, ids, plan.scene_a, plan.camera)
    middle = [10, 30, 50, 70]
    bare = cut_crop(view, view.objects[0], AlignSettings(crop_context=0.0, crop_px=80))
    assert bare[40, middle, 0].tolist() == [128, 200, 200, 128]
    wide = cut_crop(view, view.objects[0], AlignSettings(crop_context=0.5, crop_px=80))
    assert wide[40, [5, 15, 25, 40, 55, 65, 75], 0].tolist() == [128, 50, 50, 200, 50, 50, 128]
    assert wide[[10, 70], 40, 0].tolist() == [50, 50]


# Scenes


def test_a_relation_is_answered_as_the_scene_has_it():
    relations, refers, yes = set(), set(), 0
    words = {"left": "left", "right": "right", "front": "front|closer", "behind": "behind|farther"}
    words |= {"larger": "larger|bigger", "smaller": "smaller", "same_color": "same color"}
    for view, question in asked("relation"):
        (turn,) = question.turns
        name = question.info["relation"]
        if question.info["refers"] == "box":
            one, other = (object_at(view, box) for box in boxes_in(turn.prompt)[:2])
        else:
            one, other = (object_of_crop(view, crop) for crop in turn.crops)
        assert holds(name, one, other) is turn.truth.yes
        assert re.search(words.get(name, name.replace("_", " ")), turn.prompt)
        relations.add(name)
        refers.add(question.info["refers"])
        yes += turn.truth.yes
    assert len(relations) == 9
    assert refers == {"box", "crop"}
    assert is_half(yes, len(asked("relation")))


def is_half(count, total):
    """Within four standard deviations of a fair coin."""
    return abs(count - total / 2) < 2 * math.sqrt(total)


def test_a_conversation_refers_back_to_what_was_asked_for():
    lengths = set()
    for view, question in asked("conversation"):
        opening, *middle = question.turns
        first = object_at(view, opening.truth.box)
        if opening.crops:
            assert object_of_crop(view, opening.crops[0]) == first
        second = None
        for turn in middle:
            if isinstance(turn.truth, WordsTruth):
                ((name, value),) = turn.truth.attributes.items()
                assert getattr(first.object, name) == value
                assert " it" in turn.prompt
                head = re.search(NOUN, opening.prompt)
                assert opening.crops or value not in read_attributes(head[0])[name]
            elif isinstance(turn.truth, BoxTruth):
                second = object_at(view, turn.truth.box)
                phrase = re.search(r"(the .+ it)[.?] Answer", turn.prompt)[1]
                assert meant(phrase, view, it=first) == {second.id}
            else:
                assert isinstance(turn.truth, YesNoTruth)
                assert re.search("the second object .*the first one", turn.prompt)
                (name,) = (n for n, pattern in COMPARED.items() if re.search(pattern, turn.prompt))
                assert holds(name, second, first) is turn.truth.yes
        assert second is not None
        lengths.add(len(question.turns))
    assert lengths == {3, 4}


NOUN = "the .*?(object|thing|cube|block|sphere|ball|cylinder)"
COMPARED = {
    "left": "left of",
    "right": "right of",
    "front": "front of|closer",
    "behind": "behind|farther",
    "larger": "larger|bigger",
    "smaller": "smaller",
}


def test_comparisons_are_as_often_true_as_not():
    turns = [q.turns[-1].truth for _, q in asked("conversation") if len(q.turns) > 2]
    said = [truth.yes for truth in turns if isinstance(truth, YesNoTruth)]
    assert is_half(sum(said), len(said))


def test_a_description_has_every_object_from_left_to_right():
    for view, question in asked("description"):
        truth = question.turns[0].truth
        assert isinstance(truth, DescriptionTruth)
        assert len(fit_objects(view, SETTINGS)) == len(view.objects) == len(truth.objects)
        centers = [box[0] + box[2] for _, box in truth.objects]
        assert centers == sorted(centers)
        for attributes, box in truth.objects:
            seen = object_at(view, box)
            assert all(getattr(seen.object, name) == attributes[name] for name in ATTRIBUTES)


def described_in(prompt):
    """The attributes that an existence question names."""
    words = re.search(r"\b(?:a|an) (.+?)(?: in the image)?\?", prompt)[1]
    return {name: min(values) for name, values in read_attributes(words).items() if values}


def test_existence_is_true_to_the_scene_and_of_its_kind():
    kinds = {kind: [0, 0] for kind in KINDS}
    for view, question in asked("existence", repeats=6):
        (turn,) = question.turns
        named = described_in(turn.prompt)
        scene = [{name: getattr(s.object, name) for name in named} for s in view.objects]
        assert (named in scene) is turn.truth.yes
        kind = question.info["kind"]
        kinds[kind][turn.truth.yes] += 1
        if kind == "popular":
            assert math.prod(len(values_in("clevr")[name]) for name in named) <= 6
        if kind == "adversarial" and not turn.truth.yes:
            assert 2 <= len(named) <= 3
            agreeing = [sum(there[n] == named[n] for n in named) for there in scene]
            assert max(agreeing) == len(named) - 1
            assert all(any(there[n] == named[n] for there in scene) for n in named)
    for no, yes in kinds.values():
        assert is_half(yes, no + yes)
    total = sum(map(sum, kinds.values()))
    assert all(abs(no + yes - total / 3) < 2 * math.sqrt(total) for no, yes in kinds.values())


def test_what_is_too_small_to_be_asked_after_is_there_all_the_same():
    only_large_ones = AlignSettings("unit", min_area=0.02)
    for view, question in asked("existence", only_large_ones):
        named = described_in(question.turns[0].prompt)
        scene = [{name: getattr(s.object, name) for name in named} for s in view.objects]
        assert (named in scene) is question.turns[0].truth.yes


def test_the_words_of_an_existence_question_tell_nothing():
    """The attributes that are named, and how often each, are the same for yes and for no."""
    forms = {True: [], False: []}
    for _, question in asked("existence", repeats=6):
        named = described_in(question.turns[0].prompt)
        forms[question.turns[0].truth.yes].append((question.info["kind"], *named))
    for form in {*forms[True], *forms[False]}:
        yes, no = forms[True].count(form), forms[False].count(form)
        assert is_half(yes, yes + no), form


# Settings


def test_tasks_are_named_singly_or_together():
    assert resolve_tasks("relation") == ("relation",)
    assert resolve_tasks(["relation", "existence"]) == ("relation", "existence")
    for wrong in ("text_to_boxes", [], ["relation", "relation"]):
        with pytest.raises(ValueError, match="task=.*text_to_box"):
            resolve_tasks(wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coordinates": "percent"}, "coordinates='percent'.*norm1000"),
        ({"crop_px": 8}, "crop_px=8.*16 to 1024"),
        ({"options": 1}, "options=1.*2 to 8"),
        ({"options": True}, "options=True"),
        ({"min_shown": -0.1}, "min_shown=-0.1.*0 to 1"),
        ({"max_option_iou": float("nan")}, "max_option_iou=nan"),
        ({"min_area": 0.3}, "min_area=0.3 must be below max_area=0.25"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AlignSettings(**fields)


def test_posing_takes_the_other_image_where_one_gives_nothing():
    lone = synthetic_view(plan_pair(1, Difficulty(objects=(1, 1))))
    several = view_of_seed(2)
    for draw in range(8):
        rng = np.random.default_rng(draw)
        image, question = pose((lone, several), "box_to_crop", rng)
        assert image == "b"
        assert question.image is several.image
    assert pose((lone, lone), "box_to_crop", np.random.default_rng(0)) is None
