"""The failures of several jobs, told together."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..aio.waiter import awaitable_exception
from .future import outcome_of_done

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .future import JobFuture


def counted_names(futures: Sequence[JobFuture[Any]]) -> str:
    """The names of the jobs, as "charge, mail (2 times)"."""
    counts = Counter(future.name for future in futures)
    return ", ".join(name if n == 1 else f"{name} ({n} times)" for name, n in counts.items())


def group_failures(
    message: str, failed: Sequence[JobFuture[Any]]
) -> BaseExceptionGroup[BaseException]:
    """The exceptions of failed jobs as a group to raise; they need not be logged any more."""
    return BaseExceptionGroup(message, _exceptions(failed))


def awaitable_failures(
    message: str, failed: Sequence[JobFuture[Any]]
) -> BaseExceptionGroup[BaseException]:
    """Do as `group_failures` does, with the exceptions that an ``await`` of the jobs raises."""
    return BaseExceptionGroup(message, [*map(awaitable_exception, _exceptions(failed))])


def has_raised(future: JobFuture[Any], error: BaseException | None) -> bool:
    """Whether ``result()`` or an ``await`` of the job has raised *error*; does not ask for it."""
    _, exception = outcome_of_done(future)
    if error is None or exception is None:
        return False
    return exception is error or awaitable_exception(exception) is not exception is error.__cause__


def note_failures(error: BaseException, message: str) -> None:
    """Note at *error*, which is raised instead, that jobs have failed."""
    with suppress(Exception):  # A frozen dataclass takes no note.
        error.add_note(f"Meanwhile, {message}")


def _exceptions(failed: Sequence[JobFuture[Any]]) -> list[BaseException]:
    return [error for future in failed if (error := future.exception()) is not None]
