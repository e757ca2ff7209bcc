"""Error messages of scripts: one line for the user, and the traceback in a log file.

This module imports nothing heavy, so that ``--help`` is fast.
"""

from __future__ import annotations

import io
import os
import re
import sys
import sysconfig
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(
    str(_ROOT / folder) + os.sep
    for folder in ("envs", "solvers", "verifiers", "evaluation", "scripts", "tests")
)
_INSTALLED = tuple({os.path.realpath(path) + os.sep for path in sysconfig.get_paths().values()})

# A user sets it to see tracebacks; we set it to keep Hydra from printing its own message.
_FULL_ERROR = "HYDRA_FULL_ERROR"
_wants_tracebacks = os.environ.get(_FULL_ERROR) == "1"


def choices_of(job: Any) -> Mapping[str, str]:
    """The option chosen in each group of a job's config; "custom" for a list of options or for
    keys without an option."""
    return defaultdict(lambda: "custom", job.runtime.choices)


class FailedRun(str):
    """The result of a failed run of a sweep: the reason in one line."""


@contextmanager
def reported(
    log: Path | None = None, gate: Callable[[str], str] = lambda text: text
) -> Iterator[None]:
    """Ends the process with one line, ``error: …``, if the block raises.

    Args:
        log: the file for tracebacks of unexpected errors; None for no file.
        gate: removes secrets from messages and tracebacks.
    """
    before = os.environ.get(_FULL_ERROR)
    os.environ[_FULL_ERROR] = "1"
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _wants_tracebacks:
            raise
        where = "" if _is_expected(error) else _kept(error, log, " ".join(sys.argv[1:]), gate)
        sys.exit(gate(f"error: {explained(error)}{where}"))
    finally:
        if before is None:
            os.environ.pop(_FULL_ERROR, None)
        else:
            os.environ[_FULL_ERROR] = before


def failed_run(error: Exception, log: Path, overrides: str) -> FailedRun:
    """The result of a failed run; an unexpected error's traceback is written to ``log``."""
    kept = _kept(error, log, overrides)
    return FailedRun(explained(error) + ("" if _is_expected(error) else kept))


def explained(error: BaseException) -> str:
    """An error in one line: what is wrong and, if a user's code raised it, where."""
    text = _text(error)
    chain: BaseException | None = error
    while chain is not None:
        for frame, line in reversed(list(traceback.walk_tb(chain.__traceback__))):
            if _is_users(frame):
                place = f"{_short(frame.f_code.co_filename)}:{line}"
                kind = "" if type(chain).__name__ in text else f"{type(chain).__name__}: "
                return f"{frame.f_code.co_qualname} ({place}): {kind}{text}"
        chain = chain.__cause__
    if _is_expected(error):
        return text
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    place = f"{_short(frame.f_code.co_filename)}:{line}"
    return f"{text}, at {place}: a fault of this program unless the machine is at its limits"


def _is_expected(error: BaseException) -> bool:
    """Whether an error's message is enough for users, without its traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    kinds = (ValueError, OSError, ImportError, HydraException, OmegaConfBaseException)
    return (isinstance(error, kinds) or _is_of_yaml(error)) and not any(
        _is_users(frame) for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_of_yaml(error: BaseException) -> bool:
    return type(error).__module__.startswith("yaml.")


def _text(error: BaseException) -> str:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, HydraException | OmegaConfBaseException):
        return _of_hydra(error)
    if isinstance(error, OSError) and error.strerror:
        file = error.filename or _file_of(error)
        return f"{error.strerror}: {file}" if file else error.strerror
    text = " ".join(str(error).split())
    if text.startswith("Config group override must be"):  # Hydra's message names only the type
        return f"a group was given no option ({text}): expected GROUP=OPTION"
    name = type(error).__name__
    if isinstance(error, ValueError | OSError | ImportError) or _is_of_yaml(error):
        return text or name
    return f"{name}: {text}" if text else name


def _of_hydra(error: Any) -> str:
    """An error of Hydra or OmegaConf in one line; their own messages have several."""
    from routing_pomdp.envs.settings.checks import nearest

    if options := getattr(error, "options", None):
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        close = nearest(option, options)
        return f"{group}={option}: no such option{close}, expected one of " + ", ".join(
            sorted(options)
        )
    if override := getattr(error, "override", None):
        reason = str(getattr(error, "message", error)).splitlines()[0]
        return f"{override}: cannot be read, {reason} (expected KEY=VALUE, or KEY='\"…\"' to quote)"
    cause = error.__cause__
    lines = [line.strip() for line in str(error).splitlines()]
    lines = lines[: next((i for i, line in enumerate(lines) if line.startswith("Config se")), None)]
    for line in str(cause or "").splitlines():
        if not re.match(r"\s*(full_key|object_type|reference_type)", line):
            lines.append(line.strip())
    shown = "; ".join(line.rstrip(".") for line in dict.fromkeys(lines) if line)
    parent = getattr(cause, "parent_node", None)
    if missing := re.match(r"Could not override '((?:.*\.)?(\w+))'", shown):
        close = nearest(missing[2], map(str, parent or ()))
        return f"{missing[1]} is no setting{close}; to add one, write +{missing[1]}=VALUE"
    if there := re.match(r"Could not append to config. An item is already at '(.*?)'", shown):
        return f"{there[1]} is set already: write {there[1]}=VALUE, without +"
    return shown


def _file_of(error: BaseException) -> str | None:
    """The file that an error without a file name is about: the one that the innermost frames
    write to."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            if isinstance(value, io.IOBase) and isinstance(getattr(value, "name", None), str):
                return str(getattr(value, "name"))  # noqa: B009 (IOBase declares no name)
        paths = [value for value in frame.f_locals.values() if isinstance(value, Path)]
        if paths:  # the last path, a file rather than a folder
            return str(max(reversed(paths), key=lambda path: not path.is_dir()))
    return None


def _kept(
    error: Exception, log: Path | None, what: str, gate: Callable[[str], str] = lambda text: text
) -> str:
    """Appends a traceback to a log file, which only the user may read since it may quote data;
    returns a note on where it is, or how to see it."""
    if log is None:
        return f" ({_FULL_ERROR}=1 shows the traceback)"
    text = "".join(traceback.format_exception(error))
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(log, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            now = datetime.now().isoformat(timespec="seconds")
            file.write(gate(f"[{now}] {what}\n{text}\n"))
    except OSError:
        return f" ({_FULL_ERROR}=1 shows the traceback)"
    return f" (traceback in {_short(str(log))})"


def _is_users(frame: FrameType) -> bool:
    """Whether a frame belongs to a plug-in: neither this project nor an installed package."""
    name = frame.f_code.co_filename
    if name.startswith("<"):
        return False
    return not os.path.realpath(name).startswith((*_OURS, *_INSTALLED))


def _short(path: str) -> str:
    shorter = os.path.relpath(os.path.realpath(path))
    return path if shorter.startswith("..") else shorter
