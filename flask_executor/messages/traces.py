"""Exceptions that futures keep, and how to free the frames of their tracebacks.

A frame holds its variables and the frames of its callers: the arguments of a job, its future, the
stack of its submitter. So an exception that a future keeps should hold no frame.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from ..exceptions import FlaskExecutorError

if TYPE_CHECKING:
    from types import FrameType, TracebackType


# Taken from the base classes: an exception may have properties of these names, or be frozen.
_CAUSE, _CONTEXT, _TRACEBACK = (
    vars(BaseException)[name] for name in ("__cause__", "__context__", "__traceback__")
)
_MEMBERS = vars(BaseExceptionGroup)["exceptions"]

_PACKAGE = __name__.partition(".")[0]


class TracebackText(Exception):
    """Shows where an exception was raised, in this process or another."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def keep_as_text(error: BaseException, trace: str | None = None) -> None:
    """Replace the frames that *error* holds by a cause with the text of its traceback.

    Without *trace*, an error of this package gets no text: its message says everything.

    :param trace: the text, if the caller has it
    """
    if trace is None and not isinstance(error, FlaskExecutorError):
        trace = trace_of(error)
    if trace is not None:
        _CAUSE.__set__(error, TracebackText(trace))
    drop_frames(error)


def drop_frames(error: BaseException) -> None:
    """Remove the frames from *error* and from the exceptions that it refers to."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        _TRACEBACK.__set__(each, None)
        found += [_CAUSE.__get__(each), _CONTEXT.__get__(each)]
        if isinstance(each, BaseExceptionGroup):
            found += _MEMBERS.__get__(each)


def trace_of(error: BaseException) -> str:
    """The text of the traceback of *error*, beginning at the job's own code."""
    whole: TracebackType | None = _TRACEBACK.__get__(error)
    begin = whole
    while begin is not None and is_of_this_package(begin.tb_frame):
        begin = begin.tb_next
    begin = begin or whole
    try:
        return "".join(traceback.format_exception(type(error), error, begin))
    except BaseException as unformattable:  # its __cause__ or notes may be properties that raise
        tail = "".join(traceback.format_tb(begin))
        return f"{tail}{type(error).__qualname__} (cannot be shown: {text_of(unformattable)})"


def is_of_this_package(frame: FrameType) -> bool:
    """Whether *frame* runs code of this package."""
    package = frame.f_globals.get("__package__") or ""
    return package == _PACKAGE or package.startswith(f"{_PACKAGE}.")


def kinds_of(error: BaseException) -> str:
    """The type of *error*, and the types of the exceptions that led to it."""
    return ", caused by ".join(map(_kind_of, _chain(error)))


def trace_without_texts(error: BaseException) -> str:
    """The tracebacks of *error* and of the exceptions that led to it, without their messages."""
    return "\n".join(
        f"{''.join(traceback.format_tb(_TRACEBACK.__get__(each)))}{_kind_of(each)}\n"
        for each in reversed(_chain(error))
    )


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is each for each in chain):
        chain.append(following)
        following = _CAUSE.__get__(following) or _CONTEXT.__get__(following)
    return chain


def _kind_of(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name} of {error.name!r}" if isinstance(error, ImportError) and error.name else name


def text_of(error: BaseException) -> str:
    """The message of *error*, or its type if the message raises."""
    try:
        return str(error)
    except Exception:
        return type(error).__qualname__


def notes_of(error: BaseException) -> list[str]:
    """The notes of *error* that are text; none if they cannot be read."""
    try:
        return [note for note in error.__notes__ if type(note) is str]
    except Exception:
        return []
