"""What is left of the traceback of an exception that is kept."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn

import pytest

from flask_executor import WorkerDied
from flask_executor.messages.traces import (
    drop_frames,
    keep_as_text,
    kinds_of,
    notes_of,
    text_of,
    trace_without_texts,
)


def fail(error: BaseException) -> NoReturn:
    raise error


def raised(error: BaseException, *, during: BaseException | None = None) -> BaseException:
    """*error* with a traceback, and with *during* as its context."""
    with pytest.raises(type(error)):
        try:
            if during is not None:
                fail(during)
        finally:
            fail(error)
    return error


def tracebacks(*errors: BaseException) -> list[TracebackType | None]:
    return [error.__traceback__ for error in errors]


class Unshowable(Exception):
    @property
    def __cause__(self) -> NoReturn:
        raise LookupError("no cause")

    @property
    def __traceback__(self) -> NoReturn:
        raise LookupError("no traceback")

    def __str__(self) -> str:
        raise LookupError("no text")


def test_frames_are_dropped_of_all_that_an_exception_refers_to() -> None:
    member, context, cause = raised(KeyError()), raised(ValueError()), raised(OSError())
    group = raised(BaseExceptionGroup("several", [member]), during=context)
    group.__cause__ = cause
    cause.__cause__ = group  # which nobody should do

    drop_frames(group)

    assert tracebacks(group, member, context, cause) == [None] * 4


def test_a_traceback_is_kept_as_text() -> None:
    error = raised(ValueError("on purpose"), during=OSError("before"))

    keep_as_text(error)

    assert error.__traceback__ is None
    assert "in fail\n" in str(error.__cause__)
    assert "OSError: before" in str(error.__cause__)


def test_an_error_of_this_package_has_no_such_text() -> None:
    error = raised(WorkerDied("how"))

    keep_as_text(error)

    assert (error.__traceback__, error.__cause__) == (None, None)


def test_the_text_of_an_exception_that_has_none_is_its_kind() -> None:
    error = Unshowable()

    keep_as_text(error)

    assert text_of(error) == "Unshowable"


def test_notes_that_are_no_text_or_cannot_be_read_are_left_out() -> None:
    class Unreadable(Exception):
        __notes__ = property(lambda self: self.notes)

    noted = ValueError()
    noted.add_note("first")
    noted.__notes__.append(2)

    assert [notes_of(error) for error in (noted, ValueError(), Unreadable())] == [["first"], [], []]


def test_a_traceback_without_texts_has_the_types_and_lines_of_all_that_led_to_it() -> None:
    missing = ModuleNotFoundError("on purpose", name="psycopg")
    error = raised(ValueError("on purpose"), during=raised(missing, during=OSError("on purpose")))

    trace = trace_without_texts(error)

    kinds = "ValueError, caused by ModuleNotFoundError of 'psycopg', caused by OSError"
    assert kinds_of(error) == kinds
    assert "on purpose" not in trace.replace('"on purpose"', "")
    assert "in fail\n" in trace
    assert trace.index("OSError\n") < trace.index("of 'psycopg'\n") < trace.index("ValueError\n")
