"""Calls and replies as bytes, and errors that name what cannot be pickled."""

from __future__ import annotations

import pickle
import reprlib
import sys
from io import BytesIO
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from .exceptions import NotPicklable, RemoteError
from .traces import keep_as_text, text_of, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .futures import JobInfo

__all__ = ["Reply", "dumps_call"]

_FUNCTION = "expected a function at the top level of a module that workers can import"
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100  # characters
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
    """Pickle who a job is, how long it may take, and its call; functions go by name.

    :param knows_main: whether the reader has the ``__main__`` module of this process
    :raises NotPicklable: if that cannot be done; it names the function or the argument
    """
    try:
        return _dumps((job.id, job.name, job.key, timeout, fn, args, kwargs), knows_main=knows_main)
    except Exception as error:
        for what, value, expected in _parts(job, fn, args, kwargs):
            reason = _why_not(value, knows_main=knows_main)
            if reason is not None:
                raise NotPicklable(
                    f"{what}, {_repr(value)}, cannot be sent to another process: "
                    f"{text_of(reason)}; {expected}"
                ) from reason
        raise NotPicklable(
            f"the call of the job {job.name!r} cannot be sent to another process: "
            f"{text_of(error)}; {_VALUE}"
        ) from error


class Reply(NamedTuple):
    """How a call in another process ended, ready to travel.

    :param result: what it returned, pickled; if it failed, the results that a chunk had by then
    :param error: what it raised, pickled
    :param trace: the traceback of that, as text
    """

    result: bytes | None
    error: bytes | None = None
    trace: str = ""

    @classmethod
    def of_result(cls, result: object) -> Reply:
        """The reply of a call that returned *result*, if that can travel."""
        try:
            return cls(_dumps(result))
        except Exception as error:
            unfit = NotPicklable(
                f"the result of the job, {_repr(result)}, cannot be sent back from another "
                f"process: {text_of(error)}; {_VALUE}"
            )
            unfit.__cause__ = error
            return cls.of_error(unfit)

    @classmethod
    def of_error(cls, error: BaseException, results: list[Any] | None = None) -> Reply:
        """The reply of a call that raised *error*; *results* are those before it in a chunk."""
        try:
            pickled = _dumps(error)
            # Many an exception is pickled and cannot be unpickled: its __init__ takes other things.
            if not isinstance(pickle.loads(pickled), BaseException):
                raise TypeError("it becomes something else")  # noqa: TRY301 - as what pickle raises
        except BaseException:
            kind = type(error)
            pickled = _dumps(
                RemoteError(
                    "the job raised an exception that cannot be sent back from another process: "
                    f"{kind.__module__}.{kind.__qualname__}: {text_of(error)}"
                )
            )
        return cls(cls.of_result(results).result, pickled, trace_of(error))

    def read(self) -> tuple[Any, BaseException | None]:
        """The result, and what was raised, there or by the reading; it has no traceback."""
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
                f"({text_of(unreadable)}): {self.trace.strip().rpartition(chr(10))[2]}"
            )
        # Where tblib is at work, as in Dask, an exception is unpickled with a traceback, too.
        keep_as_text(error, self.trace)
        return result, error


class _Pickler(pickle.Pickler):
    def __init__(self, file: BytesIO, *, knows_main: bool) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._knows_main = knows_main

    def reducer_override(self, obj: Any) -> Any:
        """Refuse what the reader cannot find by name, and find ``fn`` behind its decorated name."""
        module = getattr(obj, "__module__", None)
        if module == "__main__" and not self._knows_main:
            raise pickle.PicklingError(
                "it belongs to the module __main__, which is another one in a worker"
            )
        if isinstance(obj, FunctionType):
            found = _find(module, obj.__qualname__)
            if found is not obj and getattr(found, "fn", None) is obj:
                return getattr, (found, "fn")
        return NotImplemented


def _dumps(value: object, *, knows_main: bool = True) -> bytes:
    file = BytesIO()
    _Pickler(file, knows_main=knows_main).dump(value)
    return file.getvalue()


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
        yield f"argument {number} of the job {job.name!r}", value, _VALUE
    for keyword, value in kwargs.items():
        yield f"the argument {keyword!r} of the job {job.name!r}", value, _VALUE
    yield f"the key of the job {job.name!r}", job.key, _VALUE


def _why_not(value: object, *, knows_main: bool) -> Exception | None:
    try:
        _dumps(value, knows_main=knows_main)
    except Exception as error:
        return error
    return None


def _repr(value: object) -> str:
    try:
        return _short.repr(value)
    except Exception:
        return object.__repr__(value)
