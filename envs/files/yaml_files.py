"""YAML files of users, read safely and without repeated keys."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from routing_pomdp.envs.files.secrets import shown_name


class _RepeatedKeyError(ValueError):
    """A mapping that has a key twice."""


class _Loader(yaml.SafeLoader):
    """Plain values only; of a key that is given twice PyYAML would keep the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            # A merge ("<<") may be repeated, and its keys may be given anew.
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
        OSError: it cannot be read.
        ValueError: it is not YAML, or a mapping in it has a key twice; the message names the file
            and, where it can, the line. It shows nothing of the file: a file of models may hold
            what is private.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        said = _without_quotations(error.problem or error.context or "")
        raise ValueError(f"{path} is not YAML: {line}{said}") from None
    except yaml.YAMLError:
        raise ValueError(f"{path} is not YAML: it holds a character that is not allowed") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it is no UTF-8 text, byte {error.start}") from None
    except RecursionError:
        raise ValueError(f"{path} is not YAML of ours: it is nested too deeply") from None
    except _RepeatedKeyError as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:  # dates and numbers that there are none of
        raise ValueError(f"{path} is not YAML: {_without_quotations(str(error))}") from None


def _without_quotations(said: str) -> str:
    """What PyYAML says, without what it quotes of the file."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "…", " ".join(said.split()))
