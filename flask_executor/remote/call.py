"""Calls and replies as bytes, and errors that name what cannot be pickled."""

from __future__ import annotations

import pickle
import sys
from io import BytesIO
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from werkzeug.local import LocalProxy

from ..exceptions import NotPicklable, RemoteError
from ..messages.shown import kind_of, name_of
from ..messages.traces import keep_as_text, notes_of, text_of, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..jobs.info import JobInfo
    from ..jobs.reports import Report


_FUNCTION = "expected a function at the top level of a module that workers can import"
_VALUE = "expected what pickle can take, such as ids, paths and plain data"


def dumps_call(
    job: JobInfo,
    timeout: float | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    knows_main: bool,
) -> bytes:
    """Pickle the identity, the timeout and the call of a job; functions are pickled by name.

    :param knows_main: whether the reader has the ``__main__`` module of this process
    :raises NotPicklable: if that is impossible; the message names the function or the argument
    """
    try:
        return _dumps((job.id, job.name, job.key, timeout, fn, args, kwargs), knows_main=knows_main)
    except _Unfit as error:
        reason = str(error)
    for what, value, expected in _parts(job, fn, args, kwargs):
        why = _why_not(value, knows_main=knows_main)
        if why is not None:
            if issubclass(type(value), LocalProxy):
                why = "it is a proxy, as request, session, g and current_app are"
            raise NotPicklable(f"{what} cannot be sent to another process: {why}; {expected}")
    raise NotPicklable(
        f"the call of the job {job.name!r} cannot be sent to another process: {reason}; {_VALUE}"
    )


class Reply(NamedTuple):
    """The outcome of a call in another process, pickled.

    :param result: the call's result; of a failed chunk, the results before the failure
    :param error: the call's exception
    :param trace: the traceback of that exception, as text and not pickled
    :param report: the last report of the call's progress
    """

    result: bytes | None
    error: bytes | None = None
    trace: str = ""
    report: Report | None = None

    @classmethod
    def of_result(cls, result: object) -> Reply:
        """The reply of a call that returned *result*; an error if *result* cannot be pickled."""
        try:
            return cls(_dumps(result))
        except _Unfit as error:
            reason = str(error)
        return cls.of_error(
            NotPicklable(
                f"the result of the job, {kind_of(result)}, cannot be sent back from another "
                f"process: {reason}; {_VALUE}"
            )
        )

    @classmethod
    def of_error(cls, error: BaseException, results: list[Any] | None = None) -> Reply:
        """The reply of a call that raised *error*; in a chunk, after these *results*."""
        try:
            pickled = _dumps(error)
            # Many exceptions can be pickled but not unpickled: __init__ takes other arguments.
            if not isinstance(pickle.loads(pickled), BaseException):
                raise TypeError("it becomes something else")  # noqa: TRY301 - as what pickle raises
        except BaseException:
            kind = type(error)
            instead = RemoteError(
                "the job raised an exception that cannot be sent back from another process: "
                f"{kind.__module__}.{kind.__qualname__}: {text_of(error)}"
            )
            for note in notes_of(error):
                instead.add_note(note)
            pickled = _dumps(instead)
        return cls(cls.of_result(results).result, pickled, trace_of(error))

    def read(self) -> tuple[Any, BaseException | None]:
        """The result, and the exception of the call or of unpickling, without its traceback."""
        try:
            result = None if self.result is None else pickle.loads(self.result)
        except BaseException as unreadable:
            keep_as_text(unreadable)
            return None, unreadable
        if self.error is None:
            return result, None
        try:
            error: BaseException = pickle.loads(self.error)
        except BaseException as unreadable:
            error = RemoteError(
                "the job raised an exception that cannot be read in this process "
                f"({type(unreadable).__name__}): {self.trace.strip().rpartition(chr(10))[2]}"
            )
        # With tblib, as in Dask, an unpickled exception has a traceback.
        keep_as_text(error, self.trace)
        return result, error


class _Unfit(Exception):
    """Tells why a value cannot be pickled.

    It is never raised from pickle's own error, whose text and notes show values.
    """


class _Refused(pickle.PicklingError):
    """An object that the reader cannot find by name."""


class _Pickler(pickle.Pickler):
    def __init__(self, file: BytesIO, *, knows_main: bool) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._knows_main = knows_main
        self.last: object = None  # the last object that is not of a plain type

    def reducer_override(self, obj: Any) -> Any:
        """Refuse objects of a foreign ``__main__``; pickle a job's ``fn`` by the job's name."""
        self.last = obj
        module = getattr(obj, "__module__", None)
        if module == "__main__" and not self._knows_main:
            raise _Refused("it belongs to the module __main__, which is another one in a worker")
        if isinstance(obj, FunctionType):
            found = _find(module, obj.__qualname__)
            if found is not obj and getattr(found, "fn", None) is obj:
                return getattr, (found, "fn")
        return NotImplemented


def _dumps(value: object, *, knows_main: bool = True) -> bytes:
    file = BytesIO()
    pickler = _Pickler(file, knows_main=knows_main)
    try:
        pickler.dump(value)
        return file.getvalue()
    except _Refused as error:
        reason = str(error)
    except Exception as error:
        reason = (
            _why_unfound(pickler.last)
            or f"pickle raised {type(error).__name__} at {kind_of(pickler.last)}"
        )
    raise _Unfit(reason)


def _why_unfound(fn: object) -> str | None:
    """The reason why a worker would not find *fn* by its name; None if *fn* is no function."""
    if not isinstance(fn, FunctionType):
        return None
    if "<locals>" in fn.__qualname__:
        return (
            f"the function {name_of(fn)!r} is defined inside a function (if it comes from a "
            "decorator, the decorator needs functools.wraps)"
        )
    return f"its module has another object under the name of the function {name_of(fn)!r}"


def _find(module: str | None, qualname: str) -> object:
    found: Any = sys.modules.get(module or "")
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _parts(
    job: JobInfo, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, object, str]]:
    yield f"the function of the job {job.name!r}", fn, _FUNCTION
    for number, value in enumerate(args, start=1):
        yield f"argument {number} of the job {job.name!r}, {kind_of(value)},", value, _VALUE
    for keyword, value in kwargs.items():
        yield f"the argument {keyword!r} of the job {job.name!r}, {kind_of(value)},", value, _VALUE
    yield f"the key of the job {job.name!r}, {kind_of(job.key)},", job.key, _VALUE


def _why_not(value: object, *, knows_main: bool) -> str | None:
    try:
        _dumps(value, knows_main=knows_main)
    except _Unfit as error:
        return str(error)
    return None
