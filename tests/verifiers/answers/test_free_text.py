"""What free text is taken to say."""

import string
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from routing_pomdp.envs.logs.answer_text import answer_form, extract_quantity
from routing_pomdp.verifiers.answers.free_text import (
    extract_answer,
    extract_choice,
    extract_number,
    normalise_text,
)

LETTERS = string.ascii_uppercase
CITIES = ["Paris", "London", "New York", "York"]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat!", "cat"),
        ("an apple, a day", "apple day"),
        ("U.S.A.", "usa"),
        ("1,000", "1000"),
        ("", ""),
    ],
)
def test_text_is_normalised_as_squad_does(text, normal):
    assert normalise_text(text) == normal


@given(st.text(alphabet="aThe nN.!,-\t\n7ß"))
def test_case_punctuation_and_spaces_make_no_difference(text):
    assume(any(character.isalnum() for character in text))
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


# -- what SQuAD's definition would lose ---------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("A", ""),
        ("The", "A"),
        ("+", "-"),
        ("3.5", "35"),
        ("-5", "5"),
        ("1/2", "12"),
        ("1,2", "12"),
        ("3:1", "31"),
        ("3-1", "31"),
        ("1--2", "12"),
    ],
)
def test_different_answers_stay_different_however_little_is_left_of_them(one, two):
    assert normalise_text(one) != normalise_text(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("A.", "a"),
        ("The", "(the)"),
        ("東京。", "東京"),
        ("«Москва»", "москва"),
        ("؟باريس", "باريس"),
        ("¿Qué?", "qué"),
        ("Zu\u0308rich", "Zürich"),
        ("ＡＢＣ", "abc"),
        ("−5", "-5"),
        ("1914–18", "1914-18"),
    ],
)
def test_equal_answers_of_every_script_are_equal(one, two):
    assert normalise_text(one) == normalise_text(two) != ""


def test_vowel_signs_are_no_punctuation():
    assert normalise_text("कि") != normalise_text("क")


@pytest.mark.parametrize(
    "same",
    [["10", "10.0", "1e1", "$10", "10.", "１０"], ["1,000", "1000", "1\u202f000"], ["½", "0.50"]],
)
def test_one_number_has_one_form(same):
    assert len({answer_form(text) for text in same}) == 1


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_have_one_form_only_if_they_are_equal(number):
    assert answer_form(f"{number:,}") == answer_form(str(number)) == str(number)


@given(st.text())
def test_a_text_that_is_not_blank_has_a_form(text):
    assert (answer_form(text) != "") == bool(unicodedata.normalize("NFKC", text).split())


# -- letters, every one alike -------------------------------------------------------------------

# {} is the letter; the last ones are what reasoning models and chat templates leave.
WRAPPED = [
    "{}", "({})", "{})", "{}.", "[{}]", "<{}>", "**{}**", "_{}_", "`{}`", "'{}'", '"{}"', "“{}”",
    r"\boxed{{{}}}", r"$\boxed{{{}}}$", r"\boxed{{\text{{{}}}}}", r"\boxed{{\mathrm{{({})}}}}",
    r"\boxed{{{}: it is old}}", r"\text{{{}}}", r"\textbf{{{}}}", "${}$", r"\({}\)", r"\[{}\]",
    "Answer: {}", "Answer: ${}$", "**Answer:** {}", "Answer: **{}**", "**Answer: {}**",
    "Answer - {}",
    "Answer = {}", r"Final Answer: $\boxed{{{}}}$", "Answer:\n\n{}", "#### {}",
    "<answer>{}</answer>",
    "<choice>{}</choice>", "<b>{}</b>", '{{"answer": "{}"}}', '```json\n{{"answer": "{}"}}\n```',
    '{{"why": "it is old", "answer": "{}", "sure": 0.9}}', "option {}", "Option {}.", "choice ({})",
    "The answer is {}.", "the answer is {}", "The correct answer is ({}).",
    "The answer is option {}",
    "The answer is {} because of its river", "The answer is: {}\nI checked all of them.",
    "The answer to the question is {}.", "The answer is probably {}.", "answer would be {}, surely",
    "The answer is not obvious, but the answer is {}.", "I choose {}.", "I would go with {}",
    "It's {}.", "So {} is correct.", "{} is the best answer.", "{}: it is old", "{} - it is old",
    "{}. It is old.", "{} because it is old", "Let me think.\n\n{}",
    "答案：{}", "答案是{}。", "Antwort: {}", "Answer: {}</s>",
    "La respuesta es {}.", "Die Antwort ist {}", "A resposta é {}.", "选{}", "Therefore, {}.",
    "I think {}",
    "Correct Answer: Option {}: it is old", "The answer is **{}) it is old**",
    "My answer: definitely {}!",
    "<think>A? No. The answer is B? C!</think>{}", "A or B.\n</think>\n\nAnswer: {}",
]  # fmt: skip


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("count", [2, 4, 10])
def test_every_letter_is_read_from_every_wrapper(wrapped, count):
    choices = [f"town {name}x" for name in LETTERS[:count].lower()]
    for letter in LETTERS[:count]:
        text = wrapped.format(letter)
        answer = extract_answer(text)
        assert extract_choice(answer, choices) == letter, text
        # Full-width letters, and those in circles, as well.
        for wide in (chr(ord(letter) + 0xFEE0), chr(ord(letter) - ord("A") + 0x24B6)):
            assert extract_choice(extract_answer(wrapped.format(wide)), choices) == letter
        if "think" not in text:
            assert extract_choice(text, choices) == letter, text


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: A big city", ""),
        ("A good question. It must be London", "B"),
        ("Answer: A Paris", "A"),
        ("Answer: D York", "D"),
        ("The answer is A or B", ""),
        ("So the answer is (A) Paris or (B) London", ""),
        ("It can't be A) or C), so B) London.", "B"),
        ("[Answer] C", "C"),
        ("Answer: B) London\n\nA) Paris is the capital of France.", "B"),
        ("The answer is A, since B and C are wrong", "A"),
        ("The answer is A and B.", ""),
        ("A/B", ""),
        ("AB", ""),
        ("The answer is not A.", ""),
        ("The answer isn't A", ""),
        ("Neither A nor B", ""),
        ("Option A is wrong. Option B is right.", "B"),
        ("A, B and C are wrong. D is right.", "D"),
        ("The answer is B. Note that A is a common distractor.", "B"),
        ("The answer is A. Wait, the answer is B.", "B"),
        ("A. Paris\nB. London\nSo it is option B", "B"),
        ("\\boxed{\\langle H\\rangle \\ll \\Delta E}\n**Answer: D**", "D"),
        ("The answer is London, not Paris", "B"),
        ("The answer is York", "D"),
        ("The answer is London or Paris", ""),
        ("C-section", ""),
        ("A's the one", ""),
        ("vitamin C deficiency", ""),
    ],
)
def test_a_letter_is_read_only_where_one_is_meant(text, letter):
    assert extract_choice(text, CITIES) == letter


def test_wordings_that_look_like_letters_or_differ_by_their_marks():
    assert (
        extract_choice("The answer is A Tale of Two Cities", ["Emma", "A Tale of Two Cities"])
        == "B"
    )
    assert extract_choice("C++", ["C", "C++", "C#"]) == "B"
    assert extract_choice("-5", ["5", "-5"]) == "B"
    assert extract_choice("The answer is 3.5", ["35", "3.5"]) == "B"
    assert extract_choice("I think it is B", [f"town {i}" for i in range(10)]) == "B"


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Answer: 11 (I checked it 2 times)", 11),
        ("It is 11 (I checked it 2 times).", 11),
        ("Answer: 11, I checked it 2 times", 11),
        ("Answer: 11 because 5 + 6 makes it", 11),
        ("Answer: 11. I checked it 2 times.", 11),
        ("The answer is 5 + 6 = 11, by 2 ways.", 11),
        ("The total is 72 clips, altogether.", 72),
        (r"\boxed{x = 5}", 5),
        (r"\boxed{5 \text{ cm}}", 5),
        (r"\boxed{\text{42}}", 42),
        (r"\boxed{42\%}", 42),
        (r"\boxed{$9{,}500}", 9500),
        (r"\boxed{\$10\,000}", 10000),
        (r"\boxed{-\frac{3}{4}}", -0.75),
        (r"2\frac{1}{2}", 2.5),
        (r"\dfrac12", 0.5),
        (r"6.02 \times 10^{23}", 6.02e23),
        ("1.5×10⁻³", 1.5e-3),
        ("2^10", 1024),
        ("The area is 25 m^2.", 25),
        ("25 m²", 25),
        (r"90^\circ", 90),
        ("2½", 2.5),
        ("1 1/2", 1.5),
        ("1\u202f234\u00a0567", 1234567),
        ("1 234 567", 1234567),
        ("12 000 km", 12000),
        ("₹1,00,000", 100000),
        ("Answer: 20 apples (5*4)", 20),
        ("The price is $1,299.99 (incl. 20% tax)", 1299.99),
        ("1'234'567", 1234567),
        ("1.234.567", 1234567),
        ("1.234,56", 1234.56),
        ("3,5", 3.5),
        ("0,333", 0.333),
        ("-$5", -5),
        ("$-5", -5),
        ("€ 20", 20),
        ("20 €", 20),
        ("–7", -7),
        ("$-3$", -3),
        ("４２", 42),
        ("٤٢", 42),
        ("答案是42。", 42),
        ('{"answer": "42", "steps": 3}', 42),
        ("<answer>42</answer> in 2 steps", 42),
        ("Answer:\n\n42", 42),
        ("1.2.3", None),
        ("1e999999999", None),
        ("9" * 5000, None),
    ],
)
def test_a_number_is_read_however_it_is_written(text, number):
    for said in (text, extract_answer(text)):
        assert extract_number(said) == (None if number is None else pytest.approx(number))


@given(st.text(alphabet="1234567890.,'/^e-+×% ()=$\\{}answer:boxed\n", max_size=60))
def test_no_text_breaks_the_reading_of_numbers(text):
    quantity = extract_quantity(text)
    assert quantity is None or abs(quantity.scaled) < float("inf")
