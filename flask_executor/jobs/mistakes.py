"""Refuses what cannot be a job, and says what was probably meant."""

from __future__ import annotations

import inspect
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

from ..aio.functions import is_coroutine_function
from ..messages.shown import kind_of, name_of, shown_number
from .function import JobFunction
from .options import OPTION_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable


_RUNS_LATER = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR
SUBMIT = "submit(fn, *args), not submit(fn(*args))"
MAP = "map(fn, *iterables)"
DECORATE = "@executor.job, and options by keyword: @executor.job(timeout=30)"


def check_callable(fn: object, usage: str = SUBMIT) -> None:
    """Refuse what cannot be called.

    :param usage: the right call, for the message
    :raises TypeError: if *fn* cannot be called
    """
    if callable(fn):
        return
    if isinstance(fn, CoroutineType):
        fn.close()  # Otherwise Python warns that it was never awaited.
    raise TypeError(
        f"{kind_of(fn)} cannot be called; expected a function, and its arguments apart from it: "
        f"{usage}"
    )


def check_function(fn: Callable[..., Any], usage: str = SUBMIT) -> bool:
    """Whether a call of *fn* returns a coroutine.

    :param usage: the right call, for the message
    :raises TypeError: if *fn* cannot be called, or a call of it would run nothing
    """
    if type(fn) is FunctionType and not fn.__dict__:  # most functions
        runs_later = fn.__code__.co_flags & _RUNS_LATER
        if not runs_later:
            return False
        if runs_later & CO_COROUTINE:
            return True
    if isinstance(fn, JobFunction):
        return fn.is_coroutine_function
    check_callable(fn, usage)
    is_coroutine = is_coroutine_function(fn)
    if not is_coroutine:
        _refuse_generator_function(fn)
    return is_coroutine


def check_callback(fn: Callable[..., Any]) -> None:
    """Refuse what cannot be a done callback.

    :raises TypeError: if *fn* cannot be called, is a coroutine function, or comes from
        `asyncio.wait`, which needs more of a future
    """
    check_callable(fn, "add_done_callback(fn), and fn(future) is called")
    if is_coroutine_function(fn):
        raise TypeError(
            f"the callback {name_of(fn)!r} is a coroutine function, and nobody would await its "
            "coroutine; expected a plain function, which may submit a job"
        )
    if getattr(fn, "__module__", None) == "asyncio.tasks":
        raise TypeError(
            "asyncio.wait() cannot wait for the future of submit(); give it the future of "
            "submit_async(), or asyncio.ensure_future(future)"
        )


def check_keywords(fn: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Refuse keywords that are options, if *fn* has no such parameters.

    :raises TypeError: if there are some
    """
    for name in sorted(OPTION_NAMES & kwargs.keys()):
        if not _takes(fn, name):
            value = kwargs[name]
            shown = shown_number(value) if isinstance(value, (int, float)) else "..."
            raise TypeError(
                f"{name_of(fn)!r} takes no argument {name!r}; if it is meant as an option of the "
                f"job: options({name}={shown}).submit(fn, *args)"
            )


def refuse_missing_key(key: object) -> NoReturn:
    """Refuse ``submit_stored(fn, ...)``.

    :raises TypeError: always
    """
    raise TypeError(
        f"the key is missing: submit_stored() has the function {name_of(key)!r} "  # type: ignore[arg-type]
        "in its place; expected submit_stored(key, fn, *args)"
    )


def _takes(fn: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # Some builtins have none.
        return True
    return any(
        each.kind is each.VAR_KEYWORD
        or (each.name == name and each.kind is not each.POSITIONAL_ONLY)
        for each in parameters.values()
    )


def _refuse_generator_function(fn: Callable[..., Any]) -> None:
    while isinstance(fn, partial):
        fn = fn.func
    called = (fn, type(fn).__call__)
    if any(map(inspect.isgeneratorfunction, called)):
        kind, instead = (
            "a generator function",
            f"a function that iterates: list({name_of(fn)}(...))",
        )
    elif any(map(inspect.isasyncgenfunction, called)):
        kind, instead = "an async generator function", "a coroutine function with 'async for'"
    else:
        return
    raise TypeError(f"{name_of(fn)!r} is {kind}, and a call of it runs nothing; submit {instead}")
