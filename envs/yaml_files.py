"""YAML files of users, read safely and without repeated keys."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


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
                    raise ValueError(f"line {line}: the key {key!r} is given twice")
                seen.add((key_node.tag, key))
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        ValueError: it cannot be read, or a mapping in it has a key twice; the message names the
            file and, where it can, the line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.MarkedYAMLError as error:
        # The text around the place is not shown: a file of models may hold what is private.
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{path} is not YAML: {line}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: it is no UTF-8 text, {error.reason}") from None
    except RecursionError:
        raise ValueError(f"{path} is not YAML of ours: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
