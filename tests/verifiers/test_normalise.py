"""What free text is taken to say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.normalise import extract_choice, extract_number, normalise_text

CITIES = ["Paris", "London", "New York", "York"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [("The  Cat!", "cat"), ("an apple, a day", "apple day"), ("U.S.A.", "usa"), ("", "")],
)
def test_text_is_normalised_as_squad_does(text, normal):
    assert normalise_text(text) == normal


@given(st.text(alphabet="aThe nN.!,-\t\n7ß"))
def test_case_punctuation_and_spaces_make_no_difference(text):
    assert normalise_text(f"  ({text.lower()})!\n") == normalise_text(text)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(C)", "C"),
        ("C) New York", "C"),
        ("**D**", "D"),
        ("A. It is the capital.", "A"),
        ("The answer is B.", "B"),
        ("The answer is (B) London", "B"),
        ("Answer: C", "C"),
        ("Answer: **C**", "C"),
        ("I first thought the answer is A, but the answer is D.", "D"),
        ("Between (A) and others, I choose (A)", "A"),
        ("It is London, surely", "B"),
        ("It must be New York", "C"),
        ("It is either London or Paris", ""),
        ("A dog", ""),
        ("I do not know", ""),
        ("E", ""),
        ("", ""),
        ("The answer is a city", ""),
        ("The answer is B because of its river", "B"),
    ],
)
def test_a_choice_is_read_from_free_text(text, letter):
    assert extract_choice(text, CITIES) == letter


def test_without_choices_no_letter_is_found():
    assert extract_choice("A", []) == ""


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("42", 42),
        ("It costs $1,234.50.", 1234.5),
        ("-3", -3),
        ("−3", -3),
        ("from 10-20", 20),
        ("5 apples and 7 pears make 12.", 12),
        ("#### 72\nI used 3 steps", 72),
        ("The answer is 8, not 9", 8),
        ("so \\boxed{17}", 17),
        ("3/4", 0.75),
        ("\\frac{1}{2}", 0.5),
        ("6.02e23", 6.02e23),
        (".5", 0.5),
        ("GPT4 says nothing", None),
        ("none", None),
        ("", None),
        ("50%", 50),
    ],
)
def test_a_number_is_read_from_free_text(text, number):
    found = extract_number(text)
    assert found == (None if number is None else pytest.approx(number))


@given(st.integers(-(10**12), 10**12))
def test_a_number_is_found_as_python_groups_it(number):
    assert extract_number(f"so, 3 of them, it is {number:,}.") == number
