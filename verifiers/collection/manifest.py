"""`Manifest`: the settings and runs of a collection, in a file beside its log."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from routing_pomdp.envs.files.secrets import Secrets, masked
from routing_pomdp.verifiers.collection.files import MANIFEST, part_of, private_file, replace_file
from routing_pomdp.verifiers.collection.models import ConfigError, ModelSpec, Price

_PACKAGES = ("openai", "httpx", "httpx2", "pydantic", "numpy", "pyarrow", "hydra-core")

FORMAT = 1  # of the manifest and the call log; CHANGELOG.md states the policy


class Manifest:
    """The manifest of a folder, written at the start and at the end of every run.

    Settings that decide the answers cannot change within a folder. Prices, addresses, budget,
    verifiers, scoring, further models and further questions can.

    Args:
        folder: of the collection.
        models: the models that answer.
        judges: further models.
        secrets: that must not be in the file.
        prompt: hash of the prompt template of questions.
        top_logprobs: asked for with answers.
        about: further content, without secrets.

    Raises:
        ConfigError: the folder was collected with another setting; the message names it.
    """

    def __init__(
        self,
        folder: Path,
        models: Sequence[ModelSpec],
        judges: Sequence[ModelSpec],
        secrets: Secrets,
        prompt: str,
        top_logprobs: int | None,
        about: Mapping[str, Any],
    ) -> None:
        self._path, self._secrets = folder / MANIFEST, secrets
        decides = {
            "models": {spec.name: spec.decides() for spec in models},
            "prompt": prompt,
            "top_logprobs": top_logprobs,
        }
        decides = self._plain(decides)
        earlier = self._read()
        if earlier:
            self._refuse_changes(earlier["answers"], decides)
            # Models that are left out this time are kept.
            decides["models"] = earlier["answers"]["models"] | decides["models"]
        specs = [*models, *judges]
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "answers": decides,
            # Includes models that are left out this time: their cost counts toward the budget.
            "prices": earlier.get("prices", {})
            | {
                spec.name: spec.price and {"in": spec.price.tokens_in, "out": spec.price.tokens_out}
                for spec in specs
            },
            "endpoints": {spec.name: spec.shown_url for spec in specs},
            **about,
            "versions": _versions(),
            "runs": [*earlier.get("runs", []), {"started": _now()}],
        }
        self._write()

    @property
    def resumed(self) -> bool:
        return len(self._content["runs"]) > 1

    def price(self, model: str) -> Price | None:
        """The price of a model of this or an earlier run."""
        price = self._content["prices"].get(model)
        return price and Price(price["in"], price["out"])

    def end(self, status: str, **figures: Any) -> None:
        """Records the end of the run."""
        self._content["runs"][-1] |= {"ended": _now(), "status": status, **figures}
        self._write()

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            earlier = json.loads(self._path.read_text(encoding="utf-8"))
            answers, runs = earlier["answers"], earlier["runs"]
            whole = earlier.setdefault("format", FORMAT) == FORMAT
            whole &= all(isinstance(each, dict) for each in (*answers["models"].values(), *runs))
            whole &= isinstance(runs, list) and {"prompt", "top_logprobs"} <= set(answers)
            for price in earlier.setdefault("prices", {}).values():
                whole &= price is None or price["in"] * price["out"] >= 0
            if not whole:
                raise ValueError
            answers["models"] = {name: masked(each) for name, each in answers["models"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            raise ConfigError(
                f"{self._path} is no manifest of a collection ({type(error).__name__}): move it "
                "away, the calls in the log are kept"
            ) from error
        return dict(self._plain(earlier))

    def _refuse_changes(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name, setting in now["models"].items():
            for key, value in setting.items():
                if (old := before["models"].get(name, setting).get(key)) != value:
                    self._refuse(f"models.{name}.{key}", old, value)
        for key in ("prompt", "top_logprobs"):
            if before[key] != now[key]:
                self._refuse(key, before[key], now[key])

    def _refuse(self, key: str, before: Any, now: Any) -> None:
        why = ""
        if key == "top_logprobs":
            why = f" (top_logprobs={'null' if before is None else before} keeps it)"
        raise ConfigError(
            f"{self._path.parent} was collected with {key} {before!r}, and now it is {now!r}: "
            f"answers of both would be mixed. Set it back{why}, or give another out="
        )

    def _plain(self, content: Any) -> Any:
        """The content as plain JSON values, with secrets masked."""
        return json.loads(json.dumps(self._secrets.plain(content)))

    def _write(self) -> None:
        text = json.dumps(self._plain(self._content), indent=2) + "\n"
        try:
            private_file(part_of(self._path)).write_text(text, encoding="utf-8")
            replace_file(self._path)
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be written: {error.strerror}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
