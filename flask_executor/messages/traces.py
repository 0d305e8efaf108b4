"""Exceptions that are kept, and the frames that their tracebacks would keep with them.

A frame holds its variables, and its callers with theirs: the arguments of a job, its future, the
stack of whoever submitted it. An exception that a future keeps is better off without.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from ..exceptions import FlaskExecutorError

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = [
    "TracebackText",
    "drop_frames",
    "is_of_this_package",
    "keep_as_text",
    "kinds_of",
    "text_of",
    "trace_of",
    "trace_without_texts",
]

# By way of the base classes: an exception may have properties of these names, or be frozen.
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
    """Have *error* hold no frame, and the text of its traceback as its cause.

    An error of this package has none: its message says all.

    :param trace: the text, if it is at hand
    """
    if trace is None and not isinstance(error, FlaskExecutorError):
        trace = trace_of(error)
    if trace is not None:
        _CAUSE.__set__(error, TracebackText(trace))
    drop_frames(error)


def drop_frames(error: BaseException) -> None:
    """Have *error*, and the exceptions that it refers to, hold no frame."""
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
    """The text of the traceback of *error*, from the job's own code on."""
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
    """The type of *error*, and the types of those that led to it."""
    return ", caused by ".join(map(_kind_of, _chain(error)))


def trace_without_texts(error: BaseException) -> str:
    """The text of the traceback of *error*, and of those that led to it, without what they say."""
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
    """What *error* says, or if that cannot be had, its kind."""
    try:
        return str(error)
    except Exception:
        return type(error).__qualname__
