"""Coroutine functions, and coroutines that nobody would run."""

from __future__ import annotations

import inspect
from functools import partial
from inspect import CO_COROUTINE
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from asgiref.sync import iscoroutinefunction

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CoroutineType

__all__ = ["is_coroutine_function", "refuse_coroutine"]


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether to call *fn* gives a coroutine.

    That of a `functools.partial`, a method, a callable object and what `asgiref.sync` marks, too.
    """
    if type(fn) is FunctionType and not fn.__dict__:
        return bool(fn.__code__.co_flags & CO_COROUTINE)
    while isinstance(fn, partial):
        fn = fn.func
    # asgiref's name for it is that of asyncio or inspect, as the Python at hand has it.
    return any(map(iscoroutinefunction, (fn, type(fn).__call__)))  # pyright: ignore[reportDeprecated]


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
