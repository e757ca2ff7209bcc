"""`ModelSpec`: a model's endpoint, price and sampling settings, read from a user's YAML file."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from routing_pomdp.envs.costs.price_table import Price, price_of, read_prices
from routing_pomdp.envs.files.secrets import (
    is_secret,
    masked,
    names_secret,
    secret_values,
    shown,
    shown_name,
)
from routing_pomdp.envs.files.yaml_files import read_yaml
from routing_pomdp.envs.settings.checks import expected, fault
from routing_pomdp.envs.settings.ranges import Range
from routing_pomdp.verifiers.signals.sampling import Temperature, Tokens

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# Request fields that the collection sets itself, or that change the form of the response.
_OURS = ("messages", "stream")


class ConfigError(ValueError):
    """A collection cannot start with a setting; the message names file and key."""


@dataclass(frozen=True)
class ModelSpec:
    """One model behind an OpenAI-compatible endpoint.

    Attributes:
        name: its name in the log.
        base_url: of the endpoint, such as "http://localhost:8000/v1".
        model: its name at the endpoint; "" for ``name``.
        api_key_env: the environment variable that holds the key; None if the endpoint needs none.
        price: None if it is not known.
        max_tokens: of an answer.
        temperature: of answers.
        system: a system message before every question; "" for none.
        extra_body: further fields of every request, such as ``{top_p: 0.9}``.
        omit: fields that are left out because the endpoint refuses them, such as "temperature".
        max_tokens_field: the endpoint's name of the limit, such as "max_completion_tokens".
        concurrency: requests under way at once; models on one endpoint share the smallest bound.
        timeout: seconds that a request may take.
        attempts: how often a request is sent before its cell is given up.
        max_wait: seconds; an endpoint that asks to wait for longer ends the collection.
        headers: further headers of every request; $NAME is replaced by an environment variable.
        query: further fields of the address's query; $NAME as in headers.
    """

    name: str
    base_url: str
    model: str = ""
    api_key_env: str | None = None
    price: Price | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    system: str = ""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    max_tokens_field: str = "max_tokens"
    concurrency: int = 16
    timeout: float = 120.0
    attempts: int = 8
    max_wait: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    def key(self) -> str | None:
        """The key, from the environment; None if the endpoint needs none.

        Raises:
            ConfigError: the variable is not set.
        """
        if self.api_key_env is None:
            return None
        if key := _variable(self.api_key_env):
            return key
        name = shown_name(self.api_key_env)
        raise ConfigError(
            f"model {self.name!r}: the environment variable {name} is not set; it holds the key "
            f"of {self.shown_url} (api_key_env names it, or is null where none is needed)"
        )

    def filled(self, name: Literal["headers", "query"]) -> dict[str, str]:
        """Headers or query, with variables replaced by their values.

        Raises:
            ConfigError: a variable is not set.
        """

        def value(found: re.Match[str]) -> str:
            if value := _variable(found[1]):
                return value
            raise ConfigError(
                f"model {self.name!r}: the environment variable {shown_name(found[1])} is not set, "
                f"which {name} names"
            )

        return {key: _VARIABLE.sub(value, text) for key, text in getattr(self, name).items()}

    def secrets(self) -> list[str]:
        """Texts that must not be written or shown: keys, passwords, values of environment
        variables, and secrets among the settings."""
        parts = urlsplit(self.base_url)
        found = [_variable(self.api_key_env or ""), *secret_values(parse_qs(parts.query))]
        if parts.password:
            user, password = unquote(parts.username or ""), unquote(parts.password)
            basic = base64.b64encode(f"{user}:{password}".encode()).decode()
            found += [parts.password, password, basic]
        found += secret_values(self.extra_body)
        for texts in (self.headers, self.query):
            # Secrets among the values that are sent, not "$NAME".
            sent = {
                name: _VARIABLE.sub(lambda it: _variable(it[1]), text)
                for name, text in texts.items()
            }
            found += secret_values(sent)
            found += [
                _variable(name) for text in texts.values() for name in _VARIABLE.findall(text)
            ]
        # Addresses hold them escaped.
        return [*found, *(quote(text, safe="") for text in found)]

    @property
    def shown_url(self) -> str:
        """The endpoint's URL without user, password and query, which may be secrets."""
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    def decides(self) -> dict[str, Any]:
        """The settings that decide the answers, without secrets; a collection keeps them fixed."""
        names = ("model", "max_tokens", "temperature", "system", "extra_body", "omit")
        return {name: masked(plain) for name, plain in asdict(self).items() if name in names}


def load_models(
    path: str | Path, prices: Mapping[str, Price | None] | None = None
) -> tuple[ModelSpec, ...]:
    """The models of a YAML file, in its order: cheapest first.

    Args:
        path: of a file with a list of mappings, or with such a list under ``models``.
        prices: a price table, for models without a price in the file.

    Raises:
        ConfigError: the file cannot be read, or a value is not allowed.
    """
    path = Path(path)
    read = _read(path)
    entries = read.get("models") if isinstance(read, dict) else read
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: expected a list of models, each with name and base_url")
    models = tuple(
        _model(entry, f"{path}: models[{i}]", prices or {}) for i, entry in enumerate(entries)
    )
    names = [model.name for model in models]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{path}: two models are named {repeated[0]!r}: give each its own name")
    return models


def load_prices(path: str | Path | None) -> dict[str, Price | None]:
    """A table ``MODEL: {in: USD, out: USD}``, USD per million tokens; null if not known.

    Raises:
        ConfigError: the file cannot be read, or a price is not a number >= 0.
    """
    if path is None:
        return {}
    try:
        return read_prices(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_priced(models: Sequence[ModelSpec], in_usd: bool) -> None:
    """Raise ConfigError unless all models have a price, or none has and no budget is in USD."""
    unpriced = [model.name for model in models if model.price is None]
    if unpriced and (in_usd or len(unpriced) < len(models)):
        reason = "the budget is in USD" if in_usd else "other models have one"
        raise ConfigError(
            f"model {unpriced[0]!r} has no price, but {reason}: give price: {{in: USD, out: USD}} "
            "per million tokens (zeros for a model of your own), or a line in the price table"
        )


def _read(path: Path) -> Any:
    try:
        return read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _model(entry: Any, where: str, prices: Mapping[str, Price | None]) -> ModelSpec:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is no mapping: expected name, base_url, …")
    settings = {setting.name: setting for setting in fields(ModelSpec)}
    for key in entry:
        if key in settings:
            continue
        if names_secret(str(key)) or "key" in str(key).lower():
            # The value is not shown: it may be a key.
            raise ConfigError(
                f"{where}.{shown_name(key)}: keys do not belong into files; put it into an "
                "environment variable and give its name as api_key_env"
            )
        raise ConfigError(
            f"{where} has the key {shown_name(key)!r}: expected some of {sorted(settings)}"
        )
    values = dict(entry)
    for key in ("name", "base_url"):
        if not isinstance(values.get(key), str) or not values[key]:
            raise ConfigError(f"{where}.{key} is {shown(values.get(key))}: expected a text")
    values["model"] = values.get("model") or values["name"]
    if not _is_address(values["base_url"]):
        raise ConfigError(f"{where}.base_url is no http:// or https:// address")
    variable = values.get("api_key_env")
    if variable is not None and not _ENVIRONMENT_NAME.fullmatch(str(variable)):
        raise ConfigError(
            f"{where}.api_key_env is no name of an environment variable (its value is not shown, "
            "as it may be a key)"
        )
    if "price" in values:
        values["price"] = _price(values["price"], f"{where}.price")
    else:
        values["price"] = prices.get(values["model"], prices.get(values["name"]))
    for key, kind in _RANGES.items():
        value = values.get(key, settings[key].default)
        if fault(value, kind, key):
            raise ConfigError(f"{where}.{key} is {shown(value)}: expected {expected(kind)}")
    extra = values.get("extra_body", {})
    if not isinstance(extra, dict):
        raise ConfigError(f"{where}.extra_body is {shown(extra)}: expected a mapping")
    if (odd := _not_json(extra)) is not None:
        raise ConfigError(f"{where}.extra_body holds {odd}: expected what JSON can hold")
    omit = values.get("omit", [])
    if not isinstance(omit, list) or not all(isinstance(name, str) for name in omit):
        raise ConfigError(f"{where}.omit is {shown(omit)}: expected a list of fields")
    values["omit"] = tuple(omit)
    for key in ("headers", "query"):
        values[key] = _texts(values.get(key) or {}, f"{where}.{key}", key == "headers")
    for name in _OURS:
        if extra.get(name) or (name in omit and name == "messages"):
            raise ConfigError(f"{where}: the field {name} is the collection's own: leave it out")
    for key in ("model", "system", "max_tokens_field"):
        if not isinstance(values.get(key, ""), str):
            raise ConfigError(f"{where}.{key} is {shown(values[key])}: expected a text")
    return ModelSpec(**values)


_RANGES: dict[str, Any] = {
    "max_tokens": Tokens,
    "temperature": Temperature,
    "concurrency": Annotated[int, Range(1, 10_000)],
    "timeout": Annotated[float, Range(0.001, 1e6)],
    "attempts": Annotated[int, Range(1, 1000)],
    "max_wait": Annotated[float, Range(0, 1e6)],
}


def _texts(value: Any, where: str, headers: bool) -> dict[str, str]:
    """A mapping from names to texts, numbers or dates (``api-version: 2024-10-21``), as texts."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is no mapping: expected NAME: VALUE")
    texts = {}
    for name, each in value.items():
        # Values are not shown: they may be keys.
        here = f"{where}.{shown_name(name)}"
        if not isinstance(each, str | int | float | date) or isinstance(each, bool):
            raise ConfigError(f"{here} is no text: expected one, in quotes")
        text = str(each)
        if headers and not (
            _HEADER_NAME.fullmatch(str(name)) and text.isascii() and text.isprintable()
        ):
            raise ConfigError(f"{here} is no header: expected plain ASCII in one line")
        if is_secret(str(name), text) and not _VARIABLE.search(text):
            raise ConfigError(
                f"{here}: keys do not belong into files; put it into an environment variable and "
                "write $NAME"
            )
        texts[str(name)] = text
    return texts


def _price(value: Any, where: str) -> Price | None:
    try:
        return price_of(value, where)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _variable(name: str) -> str:
    """The value of an environment variable; "" if it is not set."""
    return os.environ.get(name, "").strip()


def _not_json(value: Any) -> str | None:
    """The first part of a value that JSON cannot hold, such as YAML's dates and infinities."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            return "a name that is no text"
        return next(filter(None, map(_not_json, value.values())), None)
    if isinstance(value, list):
        return next(filter(None, map(_not_json, value)), None)
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else repr(value)
    return f"a {type(value).__name__}"
