"""Scores of answers, answers in texts, and which cells a policy leaves out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.collection import AnswerPrompt, AskBelow, AskSome, ConfigError
from verifiers.collection.scoring import (
    ExactMatch,
    MultipleChoice,
    NormalisedMatch,
    Number,
    TokenF1,
)
from verifiers.live import Query
from verifiers.normalise import extract_answer

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
        (TokenF1(), "the", ["a"], 1),
        (TokenF1(), "", ["dog"], 0),
        (MultipleChoice(), "B", ["London"], 1),
        (MultipleChoice(), "The answer is (C).", ["C"], 1),
        (MultipleChoice(), "London", ["B"], 1),
        (MultipleChoice(), "I do not know", ["B"], 0),
        (Number(), "It is 1,234.0 dollars", ["1234"], 1),
        (Number(), "1235", ["1234"], 0),
        (Number(0.01), "1235", ["1234"], 1),
        (Number(), "none", ["0"], 0),
    ],
)
def test_scores_are_as_by_hand(scoring, answer, references, score):
    assert scoring(answer, references, QUERY) == pytest.approx(score)


@given(st.text(alphabet="abc the.,", max_size=30), st.text(alphabet="abc the.,", max_size=30))
def test_f1_is_symmetric_bounded_and_one_where_normalised_texts_agree(one, two):
    score = TokenF1()(one, [two], QUERY)
    assert score == TokenF1()(two, [one], QUERY)
    assert 0 <= score <= 1
    assert TokenF1()(one, [one], QUERY) == 1
    assert score >= NormalisedMatch()(one, [two], QUERY)


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
        ("", ""),
    ],
)
def test_the_answer_is_found_in_the_text(text, answer):
    assert extract_answer(text) == answer


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
