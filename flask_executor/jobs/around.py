"""Calls inside the context managers that `Executor.around_job` has registered."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..aio.functions import is_coroutine_function, refuse_coroutine
from ..messages.shown import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .info import JobInfo

    Around = Sequence[Callable[[JobInfo], AbstractContextManager[Any]]]


def check_around(fn: Callable[..., Any]) -> None:
    """Refuse to register a coroutine function.

    :raises TypeError: if *fn* is one
    """
    if is_coroutine_function(fn):
        raise TypeError(
            f"{name_of(fn)!r} is a coroutine function; around_job expects a plain function "
            "that returns a context manager"
        )


def enter_around(stack: ExitStack[Any], around: Around, job: JobInfo) -> None:
    """Enter on *stack* the context manager of each function in *around*, the first one outermost.

    :raises TypeError: if a function returns no context manager
    """
    for make in tuple(around):  # Others may be registered meanwhile.
        manager: object = make(job)
        if not isinstance(manager, AbstractContextManager):
            hint = "; decorate it with @contextmanager" if isinstance(manager, Generator) else ""
            raise TypeError(
                f"{name_of(make)!r}, which around_job has registered, returned "
                f"a {type(manager).__name__}; expected a context manager{hint}"
            )
        stack.enter_context(manager)


def call_around(
    around: Around,
    job: JobInfo,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call *fn*; return None if a context manager suppresses its exception."""
    stack: ExitStack[bool] = ExitStack()
    with stack:
        enter_around(stack, around, job)
        result = fn(*args, **kwargs)
        if type(result) is CoroutineType:  # Raises here, so that context managers see it.
            refuse_coroutine(job.name, result)
        return result
    return None


async def await_around(
    around: Around,
    job: JobInfo,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Do as `call_around` does for a coroutine function, and await its coroutine."""
    stack: ExitStack[bool] = ExitStack()
    with stack:
        enter_around(stack, around, job)
        result = await fn(*args, **kwargs)
        if type(result) is CoroutineType:
            refuse_coroutine(job.name, result)
        return result
    return None
