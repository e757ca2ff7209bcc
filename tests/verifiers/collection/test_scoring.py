"""Scores of answers, answers in texts, and which cells a policy leaves out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.answers.free_text import extract_answer
from routing_pomdp.verifiers.collection import (
    AnswerPrompt,
    AskBelow,
    AskSome,
    ConfigError,
    Question,
    load_questions,
)
from routing_pomdp.verifiers.collection.scoring import (
    ExactMatch,
    MultipleChoice,
    NormalisedMatch,
    Number,
    TokenF1,
    understood,
)
from routing_pomdp.verifiers.live import Query

QUERY = Query("q", "Which?", choices=("Paris", "London", "Rome"))


@pytest.mark.parametrize(
    ("scoring", "answer", "references", "score"),
    [
        (ExactMatch(), " Paris", ["Rome", "Paris "], 1),
        (ExactMatch(), "paris", ["Paris"], 0),
        (NormalisedMatch(), "The Paris!", ["paris"], 1),
        (NormalisedMatch(), "Paris, France", ["paris"], 0),
        # By hand: 2 common words of 3 and 2; the article does not count.
        (TokenF1(), "the big red dog", ["a red dog"], 0.8),
        (TokenF1(), "dog dog", ["dog"], 2 / 3),
        (TokenF1(), "cat", ["dog", "cat and dog"], 0.5),
        (TokenF1(), "the", ["a"], 0),
        (TokenF1(), "A", ["a"], 1),
        # Without articles nothing is left: the plain text is compared.
        (NormalisedMatch(), "", ["A"], 0),
        (NormalisedMatch(), "A.", ["A"], 1),
        (NormalisedMatch(), "the", ["A"], 0),
        (NormalisedMatch(), "-", ["+"], 0),
        (NormalisedMatch(), "+", ["+"], 1),
        (NormalisedMatch(), "35", ["3.5"], 0),
        (NormalisedMatch(), "東京", ["東京。"], 1),
        (TokenF1(), "", ["dog"], 0),
        (MultipleChoice(), "B", ["London"], 1),
        (MultipleChoice(), "The answer is (C).", ["C"], 1),
        (MultipleChoice(), "London", ["B"], 1),
        (MultipleChoice(), "I do not know", ["B"], 0),
        (Number(), "It is 1,234.0 dollars", ["1234"], 1),
        (Number(), "1235", ["1234"], 0),
        (Number(0.01), "1235", ["1234"], 1),
        (Number(), "none", ["0"], 0),
        (Number(), "Answer: 11 (I checked it 2 times)", ["11"], 1),
        (Number(), "50%", ["50"], 1),
        (Number(), "50%", ["0.5"], 1),
        (Number(), "0.5", ["50%"], 1),
        (Number(), "50%", ["0.5%"], 0),
        (Number(), "$1.2 million", ["1200000"], 1),
        (Number(), "1.2", ["1.2 million"], 1),
        (Number(), "1.2 billion", ["1.2 million"], 0),
        (Number(), "1e-10", ["6.02e-23"], 0),
        (Number(), "12345678", ["12345679"], 0),
        (Number(), "12345678.0", ["12,345,678"], 1),
        (Number(1e-6), "12345678", ["12345679"], 1),
        (Number(), "0.333333", ["1/3"], 1),
        (Number(), "1e-9", ["0"], 1),
    ],
)
def test_scores_are_as_by_hand(scoring, answer, references, score):
    assert scoring(answer, references, QUERY) == pytest.approx(score)


@given(st.text(alphabet="abc the.,", max_size=30), st.text(alphabet="abc the.,", max_size=30))
def test_f1_is_symmetric_bounded_and_one_where_normalised_texts_agree(one, two):
    score = TokenF1()(one, [two], QUERY)
    assert score == TokenF1()(two, [one], QUERY)
    assert 0 <= score <= 1
    assert TokenF1()(one, [one], QUERY) == bool(one.strip())
    assert score >= NormalisedMatch()(one, [two], QUERY)


SCORINGS = (ExactMatch(), NormalisedMatch(), TokenF1(), MultipleChoice(), Number())


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_blank_answer_is_never_right(scoring, blank):
    references = {MultipleChoice: ["A"], Number: ["0"]}.get(type(scoring), ["", "A", " ", "the"])
    assert scoring(blank, references, QUERY) == 0


def asked(references, choices=QUERY.choices):
    return [
        Question(Query(f"q{i}", "Which?", choices=choices), (reference,))
        for i, reference in enumerate(references)
    ]


@pytest.mark.parametrize(
    ("references", "right"),
    [
        (["0", "1", "2"], "ABC"),
        (["1", "2", "3"], "ABC"),
        (["1", "0", "1"], "BAB"),
        (["3.0", "2.0"], "CB"),
        (["A", "c", "(B)"], "ACB"),
        (["Paris", "rome", "London"], "ACB"),
        (["Paris", "B"], "AB"),
    ],
)
def test_references_of_multiple_choice_are_understood_by_the_whole_file(references, right):
    scoring = MultipleChoice()
    for question, letter in zip(understood(scoring, asked(references)), right, strict=True):
        for answer in "ABC":
            score = scoring(answer, question.references, question.query)
            assert score == (answer == letter)


def test_numbers_that_may_count_from_0_or_1_are_refused_and_a_setting_tells():
    with pytest.raises(ConfigError, match=r"count from 0 or from 1: give scoring\.first=0 or"):
        understood(MultipleChoice(), asked(["1", "2"]))
    for first, wording in ((0, "London"), (1, "Paris")):
        (one, _) = understood(MultipleChoice(first=first), asked(["1", "2"]))
        assert one.references == (wording,)
    with pytest.raises(ValueError, match=r"scoring\.first is 2: expected 0, 1 or null"):
        MultipleChoice(first=2)


def test_choices_that_are_numbers_are_told_from_numbers_of_choices():
    choices = ("3", "1", "2")
    (one,) = understood(MultipleChoice(), asked(["1"], choices))
    assert one.references == ("1",)
    # "0" is no choice's wording, so that none of the file's references is one.
    _, one = understood(MultipleChoice(), asked(["0", "1"], choices))
    assert MultipleChoice()("B", one.references, one.query) == 1


@pytest.mark.parametrize(
    ("scoring", "questions", "told"),
    [
        (MultipleChoice(), asked(["A", "Berlin"]), "query 'q1': the reference 'Berlin' is none"),
        (MultipleChoice(), asked(["0", "3"]), "query 'q0': the reference '0' is none"),
        (MultipleChoice(), asked(["-1"]), "query 'q0': the reference '-1' is none"),
        (MultipleChoice(), asked(["A"], ()), "query 'q0' has 0 choices, expected 2 to 26"),
        (Number(), asked(["1", "x"]), "query 'q1': the reference 'x' is no number"),
    ],
)
def test_references_are_refused_before_anything_is_paid_for(scoring, questions, told):
    with pytest.raises(ConfigError, match=told):
        understood(scoring, questions)


@pytest.mark.parametrize(
    ("scoring", "references", "told"),
    [(MultipleChoice(), ["Berlin"], "none of the choices"), (Number(), ["x"], "no number")],
)
def test_a_reference_that_cannot_be_met_is_an_error(scoring, references, told):
    with pytest.raises(ValueError, match=told):
        scoring("1", references, QUERY)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("7", "7"),
        ("Let me see.\nAnswer: 7", "7"),
        ("**Answer:** Paris", "Paris"),
        ("Answer: 6\nNo.\nFinal answer: 7", "7"),
        ("<think>Answer: 6</think>\nAnswer: 7", "7"),
        ("<think>I never end", ""),
        ("The answer is near", "The answer is near"),
        ("Answer:", "Answer:"),
        ("Answer:\n\nRome", "Rome"),
        ("It is 5 </think> Answer: 7", "7"),
        ("5, hm.\n</think>\n7", "7"),
        ("<think>a<think>b</think>c</think>7", "7"),
        ("<think>a<think>b</think>7", "7"),
        ("Answer: 7 <think>is it?", "7"),
        ("Yes. <think>5?</think> It is 7", "Yes.  It is 7"),
        ("<reasoning>5</reasoning>7", "7"),
        ("[THINK]5[/THINK]7", "7"),
        ("◁think▷5◁/think▷7", "7"),
        ("5</think>", ""),
        ("Answer: 11 (I checked it 2 times)", "11"),
        ("Answer: 11 km because 5 and 6 make it", "11 km"),
        ("Answer: 5 + 6 = 11", "5 + 6 = 11"),
        ("Answer: 12 Angry Men (1957)", "12 Angry Men (1957)"),
        ("Answer: Paris (France)", "Paris (France)"),
        (r"So \boxed{\text{Paris}}", "Paris"),
        (r"Answer: $\boxed{12}$", "12"),
        (r"\boxed{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"So \boxed{5}. Wait, the answer is 6.", r"So \boxed{5}. Wait, the answer is 6."),
        ("<answer>Rome</answer> I think", "Rome"),
        ("3 + 4\n#### 7", "7"),
        ("Answer: Rome<|im_end|>", "Rome"),
        ("", ""),
    ],
)
def test_the_answer_is_found_in_the_text(text, answer):
    assert extract_answer(text) == answer


def test_more_choices_than_letters_are_refused_by_row(tmp_path):
    file = tmp_path / "questions.jsonl"
    asked = {"prompt": "Which?", "reference": "A", "choices": [f"c{i}" for i in range(27)]}
    file.write_text(json.dumps(asked))
    with pytest.raises(ConfigError, match="row 1: choices has 27 of them, expected at most 26"):
        load_questions(file)


def test_a_prompt_leaves_no_holes_and_names_choices_by_letters():
    (message,) = AnswerPrompt().ask(Query("q", "Why $5?"))
    assert message["content"].startswith("Question: Why $5?\n\nAnswer")
    asked = AnswerPrompt().ask(QUERY, system="Be brief.")
    assert asked[0] == {"role": "system", "content": "Be brief."}
    assert "A. Paris\nB. London\nC. Rome" in asked[1]["content"]
    assert "letter of a choice" in asked[1]["content"]


def test_a_prompt_of_ones_own_is_checked(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Q: $question costs $$5")
    assert AnswerPrompt.read(file).ask(Query("q", "What"))[0]["content"] == "Q: What costs $5"
    for text in ("no place", "$question $answer", "$question $ 5"):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"prompt.txt.*expected \$question"):
            AnswerPrompt.read(file)
    with pytest.raises(ConfigError, match=r"none\.txt"):
        AnswerPrompt.read(tmp_path / "none.txt")


def test_sampled_policies_draw_by_query_and_stage_alone():
    queries = [Query(f"q{i}", "") for i in range(1000)]
    some = AskSome(0.3)
    first = [some.goes_on(query, 0, {}) for query in queries]
    assert 240 < sum(first) < 360
    assert first == [AskSome(0.3).goes_on(query, 0, {}) for query in queries]
    assert first != [some.goes_on(query, 1, {}) for query in queries]
    assert first != [AskSome(0.3, seed=1).goes_on(query, 0, {}) for query in queries]
    below = AskBelow("v", 0.5, explore=0.2)
    assert below.goes_on(queries[0], 0, {"v": float("nan")})
    assert all(below.goes_on(query, 0, {"v": 0.4}) for query in queries)
    assert 140 < sum(below.goes_on(query, 0, {"v": 0.9}) for query in queries) < 260
    with pytest.raises(ValueError, match=r"policy\.signal is 'v'.*\['w'\]"):
        below.goes_on(queries[0], 0, {"w": 1.0})
