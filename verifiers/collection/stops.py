"""Errors that end an attempt, a call or a collection."""

from __future__ import annotations


class CallError(Exception):
    """One call failed; only its cell is lost."""

    lost = False


class AttemptError(Exception):
    """One attempt at a call failed; another may succeed.

    Attributes:
        asked: seconds that the endpoint asks to wait; None if it does not.
        lost: whether a response may have been generated and charged that did not arrive.
    """

    def __init__(self, reason: str, asked: float | None = None, lost: bool = False) -> None:
        super().__init__(reason)
        self.asked, self.lost = asked, lost


class StoppedError(Exception):
    """No more calls are made; calls under way are finished and kept.

    Attributes:
        lost: as in `AttemptError`.
    """

    def __init__(self, reason: str, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


class BudgetExhaustedError(StoppedError):
    """The next call does not fit into the budget."""


class EndpointRefusedError(StoppedError):
    """An endpoint takes no call; the message names it and what to do."""


class InterruptedCollectionError(StoppedError):
    """The user interrupted the collection."""
