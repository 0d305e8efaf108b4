"""Functions decorated as jobs, and the job that runs."""

from __future__ import annotations

import sys
from functools import update_wrapper
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
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
    from typing import Self

    from typing_extensions import TypeVar as DefaultTypeVar

    from .executor import Executor
    from .jobs.future import JobFuture
    from .jobs.options import OnDuplicate
    from .jobs.retry import Retry
    from .submitting.any_function import Submitter

__all__ = ["Job", "JobDecorator", "current_job"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
if TYPE_CHECKING:
    R = DefaultTypeVar("R", default=T)
else:
    R = TypeVar("R")


class _CurrentJob(LocalProxy[JobInfo]):
    """The job that the calling code is part of.

    It has an ``id``, ``name``, ``key``, ``attempt``, ``cancel_requested`` and ``progress()``.

    Outside a job, it is false and any attribute raises `RuntimeError`.
    """

    __slots__ = ()

    # A method of its own: for loops, a lookup by `LocalProxy` takes too long.
    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        job = running_job.get(None) or self._get_current_object()
        job.progress(done, total, message)


current_job: JobInfo = cast(
    "JobInfo",
    _CurrentJob(running_job, unbound_message="current_job can only be used inside a job"),
)

_WRONG_ORDER = (
    "the job {!r} is inside @classmethod, and would not get its class; put @executor.job above "
    "@classmethod"
)


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
        is_static = isinstance(fn, staticmethod)
        if is_static:  # That is, it never becomes a method.
            fn = cast("Any", fn).__func__
        self.__name__: str = name_of(fn)
        update_wrapper(self, fn)
        super().__init__(fn, options)
        self.fn: Callable[P, R] = fn
        if self.is_coroutine_function:
            markcoroutinefunction(self)
            _look_like_function(self, fn)
        self._executor = executor
        self._attribute = name_of(fn)
        self._is_method = isinstance(fn, classmethod)
        # Until its class names it. Inside a classmethod object it is not named.
        self._may_be_method = not is_static and _is_in_class(fn)

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
        on_duplicate: OnDuplicate | None = None,
        retry: Retry | None = None,
        after: object = None,
    ) -> JobOptions[P, T]:
        """Return an object that submits the function with these options; see `Executor.options`.

        Options that are not given here are those of the decorator.
        """
        options = self._executor.options(
            key=key,
            timeout=timeout,
            delay=delay,
            queue_timeout=queue_timeout,
            on_duplicate=on_duplicate,
            retry=retry,
            after=after,
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
        if self._may_be_method:
            if _is_in_classmethod(self, self.fn):
                raise TypeError(_WRONG_ORDER.format(self._attribute))
            self._may_be_method = False
        return self._executor, self._as_function

    def __set_name__(self, owner: type[Any], name: str) -> None:
        # As in Flask-Executor 1.0, a job that was made elsewhere does not become a method.
        if self._is_method or self._may_be_method:
            self._attribute, self._is_method = name, True
        self._may_be_method = False

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(
        self: Job[Concatenate[Any, Q], T, R], instance: object, owner: type[Any] | None = None
    ) -> Job[Q, T, R]: ...

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        """The job of the method of *instance*; the instance is sent along to other processes."""
        if not self._is_method:
            if instance is owner and self._may_be_method:  # `classmethod`, before Python 3.13
                raise TypeError(_WRONG_ORDER.format(self._attribute))
            return self
        method = cast("Any", self.fn).__get__(instance, owner)
        if method is self.fn:
            return self
        bound: Job[..., T, Any] = Job(self._executor, method, self.job_options)
        bound._attribute = self._attribute
        return bound

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, so that another process imports the same job, or has the same method."""
        owner = getattr(self.fn, "__self__", None)
        if owner is not None and isinstance(getattr(owner, self._attribute, None), Job):
            return getattr, (owner, self._attribute)
        if _found_by_name(self.fn) is self.fn:  # The job has another name than the function.
            return _same, (self.fn,)
        return self.fn.__qualname__

    def __repr__(self) -> str:
        return f"<Job {name_of(self.fn)}>"


def _look_like_function(job: Job[..., Any, Any], fn: Callable[..., Any]) -> None:
    # Before Python 3.12, `inspect.iscoroutinefunction`, which Flask asks for views, knows no marks.
    # It looks at the code of functions, and of objects that have the attributes of functions.
    for name in ("__code__", "__defaults__", "__kwdefaults__"):
        if hasattr(fn, name):
            setattr(job, name, getattr(fn, name))


def _is_in_class(fn: Callable[..., Any]) -> bool:
    """Whether *fn* was defined in the body of a class."""
    if not isinstance(fn, FunctionType):
        return False
    where, _, _ = fn.__qualname__.rpartition(".")
    return where != "" and not where.endswith("<locals>")


def _is_in_classmethod(job: Job[..., Any, Any], fn: Callable[..., Any]) -> bool:
    found = _found_by_name(fn, is_owner=True)
    method = vars(found).get(fn.__name__) if isinstance(found, type) else None
    return isinstance(method, classmethod) and method.__func__ is job


def _found_by_name(fn: Callable[..., Any], *, is_owner: bool = False) -> Any:
    """The object that the name of *fn* stands for in its module, or the class that has it."""
    found: Any = sys.modules.get(getattr(fn, "__module__", ""))
    path = getattr(fn, "__qualname__", "<unnamed>").split(".")
    for each in path[:-1] if is_owner else path:
        found = getattr(found, each, None)
    return found


def _same(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn
