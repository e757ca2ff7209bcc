"""A verifier of one's own: does another model, asked the same, say the same?"""

from dataclasses import dataclass

from routing_pomdp.verifiers import LiveVerifier, Signal
from routing_pomdp.verifiers.answers.free_text import normalise_text


@dataclass(frozen=True)
class SecondOpinion(LiveVerifier):
    """Puts the question to a judge as well and compares the two answers."""

    name: str = "second_opinion"
    judge: str = "judge"

    async def verify(self, case) -> Signal:
        (other,) = await case.judges[self.judge].complete(case.messages)
        said, own = normalise_text(other.text), normalise_text(case.answer.text)
        return Signal(float(said == own), {"length": len(other.text)})
