"""What ends a call, a cell or a collection."""

from __future__ import annotations


class CallError(Exception):
    """One call that did not come about; it costs its cell alone."""

    lost = False


class AttemptError(Exception):
    """One attempt at a call; another may succeed.

    Attributes:
        asked: seconds that the endpoint asks to wait; None if it does not.
        lost: whether a response may have been made, and paid for, that did not arrive.
    """

    def __init__(self, reason: str, asked: float | None = None, lost: bool = False) -> None:
        super().__init__(reason)
        self.asked, self.lost = asked, lost


class StoppedError(Exception):
    """No more calls are made; those under way end, and what is paid for is kept.

    Attributes:
        lost: as in `AttemptError`.
    """

    def __init__(self, reason: str, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


class BudgetExhaustedError(StoppedError):
    """The next call does not fit into the budget."""


class EndpointRefusedError(StoppedError):
    """An endpoint that will not take any call; the message names it and what to do."""


class InterruptedCollectionError(StoppedError):
    """The user wants it to end."""
