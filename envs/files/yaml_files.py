"""Reading of users' YAML files: plain values only, repeated keys are errors."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from routing_pomdp.envs.files.secrets import shown_name


class _RepeatedKeyError(ValueError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Loads plain values and refuses repeated keys, of which PyYAML would keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            # A merge ("<<") may be repeated, and its keys may be overridden.
            key = None if key_node.tag == "tag:yaml.org,2002:merge" else key_node.value
            if key is not None and isinstance(key_node, yaml.ScalarNode):
                if (key_node.tag, key) in seen:
                    line = key_node.start_mark.line + 1
                    name = shown_name(key)
                    raise _RepeatedKeyError(f"line {line}: the key {name!r} is given twice")
                seen.add((key_node.tag, key))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not YAML, or a mapping has a key twice. The message names the file and, if
            known, the line. It quotes nothing from the file, which may hold private values.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        reason = _without_quotations(error.problem or error.context or "")
        raise ValueError(f"{path} is not YAML: {line}{reason}") from None
    except yaml.YAMLError:
        raise ValueError(f"{path} is not YAML: it holds a character that is not allowed") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it is no UTF-8 text, byte {error.start}") from None
    except RecursionError:
        raise ValueError(f"{path} cannot be read as YAML: it is nested too deeply") from None
    except _RepeatedKeyError as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:  # impossible dates and numbers
        raise ValueError(f"{path} is not YAML: {_without_quotations(str(error))}") from None


def _without_quotations(message: str) -> str:
    """PyYAML's message without the parts that it quotes from the file."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", " ".join(message.split()))
