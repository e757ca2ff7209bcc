"""`SelfConsistency`: the vote share of an answer among fresh samples of its model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from routing_pomdp.envs.settings.ranges import Text
from routing_pomdp.verifiers.answers.canonical import Kind, canonical
from routing_pomdp.verifiers.live import Case, LiveVerifier, Signal
from routing_pomdp.verifiers.signals.sampling import Samples, Temperature, Tokens


@dataclass(frozen=True)
class SelfConsistency(LiveVerifier):
    """The vote share of the returned answer among fresh samples (Wang et al., arXiv 2203.11171).

    The model that answered is asked the question ``samples`` times more. A sample without an answer
    agrees with no answer. If the returned text has no answer, the signal is 0.

    Notes: ``unparsable``, how many samples had no answer; ``distinct``, the number of different
    answers; ``lead``, the returned answer's votes minus those of the strongest other one.

    Attributes:
        name: of the signal.
        samples: how many samples are drawn.
        temperature: of sampling.
        max_tokens: of each sample.
        kind: how answers are compared, see `Kind`.

    Raises:
        ValueError: a value is out of its range, or the kind is unknown.
    """

    name: Text = "self_consistency"
    samples: Samples = 8
    temperature: Temperature = 0.7
    max_tokens: Tokens = 256
    kind: Kind = "auto"

    async def verify(self, case: Case) -> Signal:
        completions = await case.client.complete(
            case.messages,
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        votes = Counter(canonical(made.text, case.query, self.kind) for made in completions)
        unparsable = votes.pop("", 0)
        returned = votes.pop(canonical(case.answer.text, case.query, self.kind), 0)
        return Signal(
            returned / len(completions) if completions else 0.0,
            {
                "unparsable": float(unparsable),
                "distinct": float(len(votes) + (returned > 0)),
                "lead": float(returned - max(votes.values(), default=0)),
            },
        )
