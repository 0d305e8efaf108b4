"""The rules by which a failed job runs again, and its attempts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..messages.shown import kind_of, shown_number
from ..settings import check_count, check_duration, check_positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..context.scope import Scope


@dataclass(frozen=True, slots=True)
class Retry:
    """Has a job that fails run again, with the same arguments, after a wait.

    The wait before attempt *n* + 1 is ``delay * factor ** (n - 1)`` seconds, at most *max_delay*.
    With *jitter* it is a random part of that, so that jobs which failed together do not come back
    together ("full jitter", see
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). An exception with a
    number in its attribute ``retry_after`` sets the seconds of the next wait itself.

    :param attempts: how many times the job runs at most
    :param on: the type of the exceptions that lead to another attempt, or a tuple of types
    :param delay: seconds before the second attempt
    :param factor: each further wait is so many times longer
    :param max_delay: the longest wait in seconds
    :param jitter: whether to wait a random part of that time
    :raises TypeError: if a value has the wrong type
    :raises ValueError: if a number is out of range
    """

    attempts: int
    on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    delay: float = 0.1
    factor: float = 2
    max_delay: float = 60
    jitter: bool = True

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise TypeError(
                    f"on is {kind_of(kind)}; expected a type of exception, or a tuple of types"
                )
        check_duration("delay", self.delay)
        check_duration("max_delay", self.max_delay)
        check_positive("factor", self.factor)
        if type(self.jitter) is not bool:  # Elsewhere, a jitter may be a number of seconds.
            raise TypeError(f"jitter is {shown_number(self.jitter)}; expected True or False")

    def wait_after(self, attempt: int, error: BaseException) -> float | None:
        """Seconds to wait after the *attempt* that *error* has ended; None if it was the last."""
        if attempt >= self.attempts or not isinstance(error, self.on):
            return None
        given = getattr(error, "retry_after", None)
        if isinstance(given, (int, float)) and not isinstance(given, bool) and given >= 0:
            return given
        seconds = self._longest(attempt)
        return random.uniform(0, seconds) if self.jitter else seconds  # noqa: S311 - no secret

    def _longest(self, attempt: int) -> float:
        try:
            return min(self.delay * self.factor ** (attempt - 1), self.max_delay)
        except OverflowError:
            return self.max_delay if self.delay else 0.0


class Retrying:
    """The attempts of one job: the values that each begins with, and how many have begun.

    :param scope: that of the first attempt, in which no code has run
    :param fn: the function of the job, or what another process calls for it
    :param args: the arguments of *fn*
    """

    __slots__ = ("_args", "_fn", "_scope", "attempt", "delay", "error", "retry")

    def __init__(
        self, retry: Retry, scope: Scope, fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        self.retry = retry
        self.attempt = 0
        """How many attempts have begun."""
        self.delay: float = 0
        """Seconds from the last attempt to the next."""
        self.error: BaseException | None = None
        """The exception of the last attempt, while the job waits for the next."""
        self._scope: Scope | None = scope.copy()  # None after `release`, as are the next two
        self._fn: Callable[..., Any] | None = fn
        self._args: tuple[Any, ...] | None = args

    def begin(self) -> None:
        """Count an attempt that begins."""
        self.attempt += 1
        self.error = None

    def fresh_scope(self) -> Scope | None:
        """A scope for the next attempt; it starts as that of the first did."""
        return None if self._scope is None else self._scope.copy()

    def call_there(self) -> tuple[Any, tuple[Any, ...]]:
        """The function that another process calls for the current attempt, and its arguments."""
        return self._fn, (*(self._args or ()), self.attempt)

    def release(self) -> None:
        """Let go of all but the number of the attempt."""
        self._scope = self._fn = self._args = self.error = None


def check_retry(value: object) -> None:
    """Refuse a value that is no `Retry`; None, for one attempt, is accepted.

    :raises TypeError: if *value* is neither
    """
    if not (value is None or isinstance(value, Retry)):
        raise TypeError(f"retry is {kind_of(value)}; expected a Retry, such as Retry(attempts=3)")
