"""The coroutine that a job returns by mistake, and that nobody would run."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import CoroutineType

__all__ = ["refuse_coroutine"]


def refuse_coroutine(name: str, coroutine: CoroutineType[Any, Any, Any]) -> NoReturn:
    """Close *coroutine*, which the job called *name* has returned.

    :raises TypeError: always; it says what to submit instead
    """
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()  # Python would warn that it was never awaited.
    raise TypeError(
        f"the job {name!r} returned a coroutine, which nobody would run; submit the coroutine "
        f"function {coroutine.__name__!r} itself, without a lambda and without the parentheses: "
        "submit(function, *args)"
    )
