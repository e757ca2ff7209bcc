"""`Unbuilt`: a placeholder for the arrays of a problem with too many models to build them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

_MOST = 2**26  # the most numbers in one array of a problem: half a gigabyte


@dataclass(frozen=True)
class Unbuilt:
    """A placeholder for an array: it has the shape, and any other use raises ValueError.

    Solvers that need no joint table (static choices, thresholds, regressions on the log) never use
    it, so they run on any number of models.

    Attributes:
        shape: of the array.
        levels: ``L``, of a score.
        models: ``N``.
    """

    shape: tuple[int, ...]
    levels: int
    models: int

    @property
    def reason(self) -> str:
        """The error message: what is too large, and what to do."""
        size = 8.0 * self.models * self.levels**self.models
        return (
            f"the joint table of {self.models} models has {self.levels}^{self.models} score "
            f"vectors ({_readable(size)}): choose fewer models (rollouts.models=[…]), or a solver "
            "without a model of all scores, such as static, threshold, pairwise_envelope or "
            "fitted_q; evaluation.regret=false skips figures of the model"
        )

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ValueError with the reason."""
        raise ValueError(self.reason)

    __getitem__ = __len__ = __iter__ = __array__ = refuse
    __matmul__ = __rmatmul__ = __mul__ = __rmul__ = __gt__ = __lt__ = __ge__ = __le__ = refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()


def too_large(models: int, levels: int, symbols: int) -> bool:
    """Whether a problem's likelihoods ``(N - 1, S, K)`` take too much memory."""
    return models * symbols * levels**models > _MOST


def _readable(size: float) -> str:
    power = min(int(math.log(size, 1024)), 4)
    return f"{size / 1024**power:,.0f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
