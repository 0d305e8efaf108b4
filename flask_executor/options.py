"""Executors and jobs with options for the next submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .jobs.options import options_of
from .submitting.any_function import Submitter
from .submitting.one_function import FunctionSubmitter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from .jobs.options import OnDuplicate, OptionValues
    from .jobs.retry import Retry
    from .submitting.app_executor import AppExecutor

__all__ = ["JobOptions", "Options", "WithOptions"]

P = ParamSpec("P")
T = TypeVar("T")


class Options(Submitter):
    """An executor's ways to submit, with options; made by `Executor.options`."""

    __slots__ = ("_find_app_executor", "_options")

    def __init__(self, find_app_executor: Callable[[], AppExecutor], options: OptionValues) -> None:
        self._find_app_executor = find_app_executor
        self._options = options

    def _here(self) -> AppExecutor:
        return self._find_app_executor()


class WithOptions(Submitter):
    """Submits any function, also with options: the part that `Executor` and `JobGroup` share."""

    __slots__ = ()

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
    ) -> Options:
        """Return an object that submits with these options; *fn* keeps all its keywords.

        A job that takes longer than its *timeout* fails with `JobTimeout`. A job in a worker
        process is ended then, and a coroutine is cancelled. Any other job is asked to stop, and
        keeps its worker until it stops.

        :param key: keep the future in `futures` under this key
        :param timeout: seconds that the job may run, not counting its wait for a worker; None for
            the job's own, or no limit
        :param delay: seconds to wait before the job may start; the type ``inline`` does not wait
        :param queue_timeout: seconds to wait for admission if ``EXECUTOR_MAX_PENDING`` jobs wait
            already, before `QueueFull`; None for 0 with `submit`, no limit with `submit_async`
        :param on_duplicate: what happens if a future is stored under *key* already: "raise", the
            default, raises `DuplicateKey`; "return" submits no job and returns the stored future;
            "replace" does as "raise" while that job has not ended, and replaces its future after
        :param after: an event that the job waits for: "response", until the response to the current
            request has been sent; a SQLAlchemy session, or an object that stands for one, until
            its next commit. The job is cancelled if the view raises, or the transaction is rolled
            back
        :param retry: has a job that fails run again
        :raises TypeError: if *retry* is no `Retry`, *after* no session, or one of the three times
            not a number
        :raises ValueError: if *timeout* is not above 0, one of the other times is below 0, or
            *on_duplicate* or *after* is another string
        """
        values = options_of(
            key=key,
            timeout=timeout,
            delay=delay,
            queue_timeout=queue_timeout,
            on_duplicate=on_duplicate,
            retry=retry,
            after=after,
        )
        return Options(self._here, values.over(self._options))


class JobOptions(FunctionSubmitter[P, T]):
    """A job's ways to submit itself, with options; made by `Job.options`."""

    def __init__(self, options: Options, fn: Callable[P, T]) -> None:
        self._options = options
        self._fn = fn

    def _submitter(self) -> tuple[Submitter, Callable[P, T]]:
        return self._options, self._fn
