"""The failures of several jobs, told together."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

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
    errors = [error for future in failed if (error := future.exception()) is not None]
    return BaseExceptionGroup(message, errors)


def note_failures(error: BaseException, message: str) -> None:
    """Note at *error*, which is raised instead, that jobs have failed."""
    with suppress(Exception):  # A frozen dataclass takes no note.
        error.add_note(f"Meanwhile, {message}")
