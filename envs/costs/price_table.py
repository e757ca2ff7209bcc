"""Price tables: USD per million tokens of each model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from routing_pomdp.envs.files.secrets import shown, shown_name
from routing_pomdp.envs.files.yaml_files import read_yaml
from routing_pomdp.envs.settings.ranges import Range, Text

PriceTable = Mapping[Text, Mapping[Literal["in", "out"], Annotated[float, Range(0, 1e9)]] | None]
"""``MODEL: {in: USD, out: USD}``, USD per million tokens; null for an unknown price."""


@dataclass(frozen=True)
class Price:
    """USD per million tokens, read (the prompt) and generated."""

    tokens_in: float
    tokens_out: float

    def of(self, tokens_in: Any, tokens_out: Any) -> Any:
        """Cost in USD of token counts, numbers or arrays."""
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / 1e6


def read_prices(path: str | Path) -> dict[str, Price | None]:
    """The `PriceTable` in a YAML file.

    Raises:
        ValueError: the file cannot be read, or a price is not a number >= 0.
    """
    try:
        read = read_yaml(Path(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise ValueError(f"{path}: expected a mapping MODEL: {{in: USD, out: USD}}")
    return {
        str(name): price_of(value, f"{path}: {shown_name(name)}") for name, value in read.items()
    }


def price_of(value: Any, where: str) -> Price | None:
    """A price from ``{in: USD, out: USD}`` or None.

    Args:
        value: a plain value.
        where: its name in error messages.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"in", "out"}:
        raise ValueError(f"{where} is {shown(value)}: expected {{in: USD, out: USD}}, or null")
    for key, usd in value.items():
        if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < 1e9:
            raise ValueError(
                f"{where}.{key} is {shown(usd)}: expected USD per million tokens, >= 0"
            )
    return Price(float(value["in"]), float(value["out"]))
