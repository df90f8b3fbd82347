"""Relations, referring expressions and the words for them: what is asked has one right answer."""

import dataclasses
import itertools

import numpy as np
import pytest
from expression_reader import meant
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic_views import synthetic_view

from dig_env.align.expressions import (
    EXTREMES,
    SIDES,
    Expression,
    denoted,
    draw_expression,
    expressions_for,
    phrase,
)
from dig_env.align.relations import DIRECTIONS, SAME, holds
from dig_env.align.words import ATTRIBUTES, SYNONYMS, attribute_share, noun_phrase, read_attributes
from dig_env.scenes import STAGES, Difficulty, SceneObject, SeenObject, View, plan_pair

CROWDED = Difficulty(objects=(6, 9))
seeds = st.integers(0, 2**40)
views_of_plans = st.builds(
    lambda seed, crowded: synthetic_view(plan_pair(seed, CROWDED if crowded else STAGES["mixed"])),
    seeds,
    st.booleans(),
)


def seen_at(box, depth=10.0, size="small", **attributes):
    obj = SceneObject(1, "cube", size, "metal", "red", 0.0, 0.0, 0.0)
    return SeenObject(dataclasses.replace(obj, **attributes), box, 100, 1.0, depth)


# Relations


@settings(max_examples=40)
@given(view=views_of_plans)
def test_a_relation_is_true_where_its_converse_is_false(view):
    for one, other in itertools.permutations(view.objects, 2):
        for relation, converse in DIRECTIONS.items():
            truth = holds(relation, one, other)
            assert truth == holds(converse, other, one)
            assert holds(converse, one, other) == (None if truth is None else not truth)
        for relation in SAME:
            assert holds(relation, one, other) is holds(relation, other, one)


@pytest.mark.parametrize(
    ("gap", "truth"), [(10, None), (14, None), (15, True), (40, True), (-15, False), (0, None)]
)
def test_left_needs_half_the_wider_box_between_the_centres(gap, truth):
    one, other = seen_at((50, 0, 60, 10)), seen_at((40 + gap, 0, 70 + gap, 10))
    assert holds("left", one, other) is truth


@pytest.mark.parametrize(("nearer", "truth"), [(0.69, None), (0.71, True), (-0.71, False)])
def test_in_front_needs_the_larger_radius(nearer, truth):
    one, other = seen_at((0, 0, 9, 9), 10 - nearer), seen_at((0, 0, 9, 9), 10.0, "large")
    assert holds("front", one, other) is truth


def test_larger_needs_the_class_and_the_look_of_it():
    small, large = seen_at((0, 0, 20, 20)), seen_at((0, 0, 30, 30), size="large")
    assert holds("larger", large, small) is True
    assert holds("smaller", large, small) is False
    assert holds("larger", small, small) is None, "one class"
    far = seen_at((0, 0, 24, 22), size="large")
    assert holds("larger", far, small) is None, "it does not look larger"


def test_an_unknown_relation_is_named():
    with pytest.raises(ValueError, match="above.*left"):
        holds("above", seen_at((0, 0, 9, 9)), seen_at((0, 0, 9, 9)))


# Referring expressions


@settings(max_examples=60)
@given(view=views_of_plans, draws=st.integers(0, 2**32))
def test_an_expression_means_its_object_to_a_reader_of_the_words(view, draws):
    rng = np.random.default_rng(draws)
    for target in view.objects:
        expression = draw_expression(target, view, rng)
        if expression is not None:
            text = phrase(expression, rng)
            assert meant(text, view) == {target.id}, text


@settings(max_examples=25)
@given(view=views_of_plans)
def test_every_expression_that_is_found_denotes_its_object_in_every_wording(view):
    for target in view.objects:
        for kind in ("attributes", "relation", "superlative"):
            for expression in expressions_for(target, view, kind):
                assert expression.kind == kind
                assert denoted(expression, view) == target
                assert meant(phrase(expression), view) == {target.id}


def test_the_second_reader_disagrees_with_a_wrong_expression():
    """It is no rubber stamp."""
    view = synthetic_view(plan_pair(5, STAGES["mixed"]))
    left = min(view.objects, key=lambda seen: seen.box[0] + seen.box[2])
    assert meant("the rightmost object", view) != {left.id}
    assert meant("the leftmost object", view) == {left.id}


@settings(max_examples=25)
@given(view=views_of_plans)
def test_relations_and_superlatives_are_used_where_attributes_alone_leave_it_open(view):
    for target in view.objects:
        for kind in ("relation", "superlative"):
            for expression in expressions_for(target, view, kind):
                assert denoted(Expression(expression.attributes), view) is None


def test_what_several_objects_or_none_match_denotes_nothing():
    view = synthetic_view(plan_pair(5, STAGES["mixed"]))
    assert len(view.objects) > 1
    assert denoted(Expression(), view) is None
    absent = next(
        color
        for color in ATTRIBUTES["color"]
        if color not in {seen.object.color for seen in view.objects}
    )
    nothing = Expression({"color": absent})
    assert denoted(nothing, view) is None
    assert denoted(Expression(side="left", anchor=nothing), view) is None


def test_the_object_beside_another_is_never_that_other_one():
    """ "The object left of the cube" may be said of two cubes: the anchor is not meant itself."""
    left, right = seen_at((0, 0, 10, 10)), seen_at((50, 0, 60, 10), color="blue")
    left, right = (
        dataclasses.replace(seen, object=dataclasses.replace(seen.object, id=index))
        for index, seen in enumerate((left, right), 1)
    )
    view = View(np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8), (left, right))
    blue = Expression({"color": "blue"})
    assert denoted(Expression({"shape": "cube"}, side="left", anchor=blue), view) == left
    assert denoted(Expression({"shape": "cube"}, side="right", anchor=blue), view) is None


@settings(max_examples=60)
@given(view=views_of_plans, index=st.integers(0, 8))
def test_too_close_to_call_denotes_nothing(view, index):
    """Where a candidate is neither clearly left nor clearly right of the anchor."""
    assume(view.objects)
    anchor = view.objects[index % len(view.objects)]
    described = Expression({name: getattr(anchor.object, name) for name in ATTRIBUTES})
    assume(denoted(described, view) == anchor)
    others = [seen for seen in view.objects if seen.id != anchor.id]
    for side in SIDES:
        if None in [holds(side, seen, anchor) for seen in others]:
            assert denoted(Expression(side=side, anchor=described), view) is None


def test_each_kind_of_expression_is_found_in_planned_scenes():
    kinds, extremes, sides = set(), set(), set()
    rng = np.random.default_rng(0)
    for seed in range(60):
        view = synthetic_view(plan_pair(seed, STAGES["mixed"]))
        for target in view.objects:
            expression = draw_expression(target, view, rng)
            if expression is not None:
                kinds.add(expression.kind)
                extremes.add(expression.extreme)
                sides.add(expression.side)
    assert kinds == {"attributes", "relation", "superlative"}
    assert extremes == {*EXTREMES, None}
    assert sides == {*SIDES, None}


# Words

attribute_values = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in ATTRIBUTES.items()}
)


@given(attributes=attribute_values, draws=st.integers(0, 2**32))
def test_what_is_said_of_an_object_is_read_back(attributes, draws):
    assume(attributes)
    text = f"It is a {noun_phrase(attributes, np.random.default_rng(draws)).upper()}."
    assert attribute_share(text, attributes) == 1.0
    named = {name: values for name, values in read_attributes(text).items() if values}
    assert named == {name: {value} for name, value in attributes.items()}


def test_every_synonym_is_used_in_questions():
    rng = np.random.default_rng(0)
    said = {
        word
        for values in ATTRIBUTES.items()
        for value in values[1]
        for _ in range(60)
        for word in noun_phrase({values[0]: value}, rng).split()
    }
    assert {word for others in SYNONYMS.values() for word in others} <= said


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("small red metal cube", 1.0),
        ("A tiny, shiny red block!", 1.0),
        ("size: small; color: red; material: metal; shape: cubes", 1.0),
        ("small red metal sphere", 0.75),
        ("red", 0.25),
        ("red or blue, small, metal, cube", 0.75),
        ("large small red blue rubber metal cube sphere", 0.0),
        ("redcube metallicity", 0.0),
        ("", 0.0),
    ],
)
def test_attributes_earn_their_share_and_contradictions_nothing(text, share):
    asked = {"size": "small", "color": "red", "material": "metal", "shape": "cube"}
    assert attribute_share(text, asked) == share
