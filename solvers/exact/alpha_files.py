"""Alpha vectors on disk: the ``.alpha`` text of pomdp-solve and the XML policy of SARSOP (APPL)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from routing_pomdp.envs.files.atomic import write_text
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors


def write_alpha(value: AlphaVectors, path: str | Path) -> None:
    """Writes alpha vectors without loss: as SARSOP's XML if the path ends in ``.policy`` or
    ``.xml``, otherwise as pomdp-solve's text."""
    path = Path(path)
    rows = [" ".join(map(repr, vector)) for vector in value.vectors.tolist()]
    if path.suffix in (".policy", ".xml"):
        root = ElementTree.Element("Policy", version="0.1", type="value", model="")
        length, number = str(value.vectors.shape[1]), str(len(rows))
        parent = ElementTree.SubElement(
            root, "AlphaVector", vectorLength=length, numObsValue="1", numVectors=number
        )
        for action, row in zip(value.actions.tolist(), rows, strict=True):
            ElementTree.SubElement(parent, "Vector", action=str(action), obsValue="0").text = row
        ElementTree.indent(root)
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
        return
    pairs = zip(value.actions.tolist(), rows, strict=True)
    write_text(path, "".join(f"{a}\n{row}\n\n" for a, row in pairs))


def read_alpha(path: str | Path) -> AlphaVectors:
    """Reads alpha vectors in either format, which is recognised by the first character.

    Raises:
        ValueError: the file is malformed; the message names the file, the reason and, in the text
            format, the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _from_xml(text) if text.lstrip().startswith("<") else _from_text(text)
        actions = np.array([int(action) for action, _ in pairs])
        lengths = {len(row) for _, row in pairs}
        if len(lengths) != 1:
            raise ValueError(f"vectors have lengths {sorted(lengths)}, expected one length")
        vectors = np.array([row for _, row in pairs], dtype=np.float64)
        if not np.isfinite(vectors).all() or (actions < 0).any():
            raise ValueError("expected finite numbers and actions from 0")
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: {error}") from None
    order = np.argsort(actions, kind="stable")
    return AlphaVectors(vectors[order], actions[order])


def _from_text(text: str) -> list[tuple[str, list[str]]]:
    rows = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if len(rows) % 2:
        raise ValueError(
            f"line {rows[-1][0]}: expected pairs of lines, an action and then its vector"
        )
    for (point, action), (below, row) in zip(rows[::2], rows[1::2], strict=True):
        if len(action) != 1 or not action[0].isdigit():
            raise ValueError(f"line {point}: expected an action from 0, found {' '.join(action)!r}")
        if len(row) != len(rows[1][1]):
            raise ValueError(
                f"line {below}: a vector of length {len(row)}, earlier ones have {len(rows[1][1])}"
            )
        for number in row:
            if not _finite(number):
                raise ValueError(f"line {below}: expected a finite number, found {number!r}")
    return [(action[0], row) for (_, action), (_, row) in zip(rows[::2], rows[1::2], strict=True)]


def _finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _from_xml(text: str) -> list[tuple[str, list[str]]]:
    root = ElementTree.fromstring(text)
    vectors = root.findall("./AlphaVector/Vector")
    if not vectors:
        raise ValueError("no <AlphaVector> with a <Vector> in it")
    if any(vector.get("obsValue", "0") != "0" for vector in vectors):
        raise ValueError("vectors of a factored problem (obsValue other than 0) are not supported")
    missing = [vector for vector in vectors if vector.get("action") is None]
    if missing:
        raise ValueError("a <Vector> has no action")
    return [(vector.get("action", ""), (vector.text or "").split()) for vector in vectors]
