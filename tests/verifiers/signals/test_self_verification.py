"""The model's verdicts on its own answer."""

import math
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers import SelfVerification
from routing_pomdp.verifiers.live import Query
from routing_pomdp.verifiers.signals.self_verification import verdict
from tests.support.clients import Scripted, case_of, signal_of

YES, NO, LOST = "Reason: so it says.\nVerdict: correct", "Verdict: incorrect", "I cannot tell."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Verdict: correct", True),
        ("Verdict: incorrect", False),
        ("**Verdict:** Correct.", True),
        ("VERDICT - INCORRECT", False),
        ("Verdict: not correct", False),
        ("Verdict: the answer is incorrect", False),
        ("Verdict: The AI generated answer is Correct", True),
        ("Verdict：ｃｏｒｒｅｃｔ", True),
        ("Verdict: incorrect\nOn reflection:\nVerdict: correct", True),
        ("Incorrect.", False),
        (" correct ", True),
        ("Verdict: correct or incorrect", None),
        ("Verdict: correct/incorrect", None),
        ("Verdict: **correct** or **incorrect**", None),
        ("Verdict: correctness is hard to judge", None),
        ("That seems correct to me", None),
        ("Verdict:", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_or_left_unread(text, says):
    assert verdict(text) is says


def test_the_signal_is_the_share_of_readable_verdicts():
    client = Scripted([YES, NO, LOST, YES, "", YES, NO, YES])
    signal = signal_of(SelfVerification(), case_of(client))
    assert signal.value == 4 / 6
    assert signal.notes == {"unparsable": 2.0, "no_verdict": 0.0}
    (call,) = client.calls
    assert (call["samples"], call["temperature"]) == (8, 1.0)


def test_without_a_readable_verdict_the_signal_is_missing_and_flagged():
    for said in ([LOST] * 3, []):
        signal = signal_of(SelfVerification(samples=3), case_of(Scripted(said)))
        assert math.isnan(signal.value)
        assert signal.notes == {"unparsable": len(said), "no_verdict": 1.0}


@given(st.lists(st.sampled_from([YES, NO, LOST]) | st.text(), min_size=1, max_size=10))
def test_the_signal_is_a_share_whatever_is_said(said):
    signal = signal_of(SelfVerification(samples=len(said)), case_of(Scripted(said)))
    assert 0 <= signal.notes["unparsable"] <= len(said)
    readable = len(said) - signal.notes["unparsable"]
    if not readable:
        assert math.isnan(signal.value)
        return
    assert 0 <= signal.value <= 1
    assert signal.value * readable == pytest.approx(sum(verdict(text) is True for text in said))


def test_the_model_is_shown_context_question_choices_and_its_answer():
    query = Query("q", "How much is $x, in {dollars}?", "It is $5.", ("$5", "£6"))
    client = Scripted([YES])
    signal_of(SelfVerification(samples=1), case_of(client, "B – £6", query=query))
    ((message,),) = (call["messages"] for call in client.calls)
    assert message["role"] == "user"
    assert message["content"].endswith(
        "Context: It is $5.\nQuestion: How much is $x, in {dollars}?\nA. $5\nB. £6\nAnswer: B – £6"
    )


def test_the_shipped_prompt_has_four_worked_examples_that_it_can_read_itself():
    text = (
        resources.files("routing_pomdp.verifiers.signals") / "prompts" / "self_verification.txt"
    ).read_text()
    *examples, asked = text.split("Context: ")[1:]
    assert [verdict(example) for example in examples] == [True, False, True, False]
    assert asked.startswith("$context")
    assert SelfVerification().prompt_texts() == {"self_verification.txt": text}


def test_a_prompt_of_ones_own_takes_its_place(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Für $$5: stimmt „$answer“ auf „$question“?\n", encoding="utf-8")
    client = Scripted(["correct"])
    verifier = SelfVerification(samples=1, prompt=str(path))
    path.unlink()  # it was read when the verifier was made
    assert signal_of(verifier, case_of(client, "ja")).value == 1.0
    assert client.calls[0]["messages"][0]["content"] == (
        "Für $5: stimmt „ja“ auf „What is the capital of France?“?"
    )
    assert list(verifier.prompt_texts()) == [str(path)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"$question \xff $answer", "utf-8"),
        (b"$question", "expected ['answer', 'question'], and at most"),
        (b"$question $answer $gold", "'gold'"),
        (b"for $5, $question $answer", "write '$$'"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_paid(content, message, tmp_path):
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        SelfVerification(prompt=str(path))
    assert f"verifier.prompt is {str(path)!r}" in str(error.value)


@pytest.mark.parametrize("setting", [{"samples": 0}, {"temperature": -1.0}, {"max_tokens": 0}])
def test_settings_that_no_endpoint_takes_are_refused_by_key(setting):
    (key,) = setting
    with pytest.raises(ValueError, match=f"verifier.{key} is"):
        SelfVerification(**setting)
