"""Tells coroutine functions from others, and refuses coroutines that nobody would run."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from asgiref.sync import iscoroutinefunction

from ..messages.shown import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CoroutineType


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether a call of *fn* returns a coroutine.

    *fn* may also be a `functools.partial`, a method, a callable object or marked by `asgiref.sync`.
    """
    if type(fn) is FunctionType and not fn.__dict__:
        return bool(fn.__code__.co_flags & CO_COROUTINE)
    while isinstance(fn, partial):
        fn = fn.func
    # asgiref's function is asyncio's or inspect's, depending on the Python version.
    return any(map(iscoroutinefunction, (fn, type(fn).__call__)))  # pyright: ignore[reportDeprecated]


def refuse_coroutine(name: str, coroutine: CoroutineType[Any, Any, Any]) -> NoReturn:
    """Close *coroutine*, which the job called *name* has returned, and raise.

    :raises TypeError: always; the message says what to submit instead
    """
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()  # Otherwise Python warns that it was never awaited.
    raise TypeError(
        f"the job {name!r} returned a coroutine, which nobody would run; submit the coroutine "
        f"function {coroutine.__name__!r} itself, without a lambda and without the parentheses: "
        "submit(function, *args)"
    )


def refuse_future(name: str, result: object) -> None:
    """Refuse an asyncio future that is not done as the result of the coroutine job called *name*.

    :raises TypeError: if *result* is one
    """
    if asyncio.isfuture(result) and not result.done():
        raise TypeError(
            f"the job {name!r} returned {kind_of(result)}, which its callers cannot use; await it "
            "in the job"
        )
