"""Functions decorated as jobs, and the job that runs."""

from __future__ import annotations

from functools import update_wrapper
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

from asgiref.sync import markcoroutinefunction
from werkzeug.local import LocalProxy

from .jobs.function import JobFunction
from .jobs.info import JobInfo, running_job
from .jobs.options import NO_OPTIONS, OptionValues
from .messages.shown import name_of
from .options import JobOptions
from .submitting.one_function import FunctionSubmitter

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from typing_extensions import TypeVar as DefaultTypeVar

    from .executor import Executor
    from .jobs.future import JobFuture
    from .submitting.any_function import Submitter

__all__ = ["Job", "JobDecorator", "current_job"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
if TYPE_CHECKING:
    R = DefaultTypeVar("R", default=T)
else:
    R = TypeVar("R")

current_job: JobInfo = cast(
    "JobInfo",
    LocalProxy(running_job, unbound_message="current_job can only be used inside a job"),
)
"""The job that the calling code is part of: its ``id``, ``name``, ``key`` and ``cancel_requested``.

Outside a job, it is false and any attribute raises `RuntimeError`.
"""


class JobDecorator(Protocol):
    """The decorator that ``executor.job()`` returns."""

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Job[P, T, Coroutine[Any, Any, T]]: ...

    @overload
    def __call__(self, fn: Callable[P, T], /) -> Job[P, T]: ...


class Job(JobFunction, FunctionSubmitter[P, T], Generic[P, T, R]):
    """A function that can submit itself to its executor; a call runs the plain function.

    Made by `Executor.job`, even before the executor has an app. In a class it is a method, a class
    method or a static method, as the function is. *T* is the type of the job's result. *R* is the
    type that a call returns: *T*, or for a coroutine function, the coroutine.

    :param options: the options of each submission that does not give its own
    """

    def __init__(
        self, executor: Executor, fn: Callable[P, R], options: OptionValues = NO_OPTIONS
    ) -> None:
        self.__name__ = name_of(fn)
        update_wrapper(self, fn)
        super().__init__(fn, options)
        self.fn: Callable[P, R] = fn
        if self.is_coroutine_function:
            markcoroutinefunction(self)
        self._executor = executor

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        return self.fn(*args, **kwargs)

    def options(
        self,
        *,
        key: Hashable | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        queue_timeout: float | None = None,
    ) -> JobOptions[P, T]:
        """Return an object that submits the function with these options; see `Executor.options`.

        Options that are not given here are those of the decorator.
        """
        options = self._executor.options(
            key=key, timeout=timeout, delay=delay, queue_timeout=queue_timeout
        )
        return JobOptions(options, self._as_function)

    @overload
    def submit_stored(
        self, key: Hashable, /, *args: P.args, **kwargs: P.kwargs
    ) -> JobFuture[T]: ...

    @overload
    def submit_stored(self, /, *, future_key: Hashable, **kwargs: Any) -> JobFuture[T]: ...

    def submit_stored(self, /, *args: Any, **kwargs: Any) -> JobFuture[T]:
        """Submit the function as a job and store its future; see `Executor.submit_stored`."""
        if not args:
            if "future_key" not in kwargs:
                raise TypeError("submit_stored() is missing the argument 'future_key'")
            args = (kwargs.pop("future_key"),)
        key, *args_of_job = args
        _, fn = self._submitter()
        return self._executor.submit_stored(key, cast("Any", fn), *args_of_job, **kwargs)

    @property
    def timeout(self) -> float | None:
        """The seconds that the function may run as a job; None for no limit."""
        return self.job_options.timeout

    @property
    def _as_function(self) -> Callable[P, T]:
        # A submitted coroutine function gives the result of its coroutine.
        return cast("Callable[P, T]", self)

    def _submitter(self) -> tuple[Submitter, Callable[P, T]]:
        return self._executor, self._as_function

    def __reduce__(self) -> str:
        """Pickle by name: another process imports the same job."""
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<Job {name_of(self.fn)}>"
