"""Numbers that users give: what is taken, and the one form of the error."""

import math

import numpy as np
import pytest

from dig_env.scenes.arguments import one_of, real, whole


def test_numbers_of_python_and_numpy_are_taken():
    assert whole("n", np.int64(3), 1, 3) == 3
    assert [real("x", value) for value in (2, 0.5, np.float32(0.5))] == [2, 0.5, 0.5]
    assert type(real("x", np.int64(2))) is int and type(real("x", np.float32(2))) is float
    assert real("x", 1, 0, 1, above=True) == 1
    one_of("word", "a", ("a", "b"))


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: whole("n", 2.0), "n=2.0: give a whole number"),
        (lambda: whole("n", True, 0), "n=True: give a whole number, 0 or more"),
        (lambda: whole("n", 9, 1, 8, " of pixels"), "n=9: give a whole number of pixels from 1 to"),
        (lambda: real("x", math.nan), "x=nan: give a finite number"),
        (lambda: real("x", "1"), "x='1': give a finite number"),
        (lambda: real("x", False, 0), "x=False: give a finite number, 0 or more"),
        (lambda: real("x", 10**400, 0), "give a finite number, 0 or more"),
        (lambda: real("x", 0, 0, above=True), "x=0: give a finite number above 0"),
        (lambda: real("x", 0, 0, 1, above=True), "x=0: give a number above 0, up to 1"),
        (lambda: real("x", math.inf, 0, 1), "x=inf: give a number from 0 to 1"),
        (lambda: one_of("word", ["a"], ("a", "b")), r"word=\['a'\]: give one of a, b"),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(check, message):
    with pytest.raises(ValueError, match=message):
        check()
