"""`Unbuilt`: the joint table of a problem with too many models to have one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

_MOST = 2**26  # numbers in the largest array of a problem: half a gigabyte


@dataclass(frozen=True)
class Unbuilt:
    """Stands where an array would, knows its shape, and says on any use why it is not there.

    Solvers that need no joint table (static choices, thresholds, regressions on the log) never
    touch it, so they run on any number of models.

    Attributes:
        shape: of the array.
        levels: of a score.
        models: ``N``.
    """

    shape: tuple[int, ...]
    levels: int
    models: int

    @property
    def reason(self) -> str:
        """One line: what is too large, and what to do."""
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
    """Whether a problem's likelihoods ``(N - 1, S, K)`` are more than memory should hold."""
    return models * symbols * levels**models > _MOST


def _readable(size: float) -> str:
    power = min(int(math.log(size, 1024)), 4)
    return f"{size / 1024**power:,.0f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
