"""Several items of a `map` as one job."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ..aio.functions import refuse_coroutine
from ..messages.shown import name_of
from .around import call_around, enter_around
from .info import running_job
from .item import WorkItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..context.scope import Scope
    from .around import Around
    from .info import JobInfo


class ChunkFailed(Exception):
    """An item of a chunk raised; *results* are those of the items before it."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results


class Chunk:
    """Calls a function for each item.

    :param call: called with the arguments of each item; calls *fn* in the right contexts
    """

    def __init__(self, fn: Callable[..., Any], call: Callable[..., Any]) -> None:
        self._fn = fn
        self._call = call
        self.__name__: str = name_of(fn)

    def __call__(self, *items: tuple[Any, ...]) -> list[Any]:
        """Call the function with each tuple of arguments; called inside a job."""
        return self.call_around((), running_job.get(), items)

    def call_around(
        self, around: Around, job: JobInfo, items: tuple[tuple[Any, ...], ...]
    ) -> list[Any]:
        """Call the function for all items inside context managers, which see an item's error."""
        results: list[Any] = []
        call, result = self._call, None
        try:
            stack: ExitStack[bool] = ExitStack()
            with stack:
                if around:
                    enter_around(stack, around, job)
                for args in items:
                    result = call(*args)
                    if type(result) is CoroutineType:
                        refuse_coroutine(self.__name__, result)
                    results.append(result)
                return results
            raise RuntimeError(  # noqa: TRY301 - reported like an item's exception
                "a context manager of around_job suppressed what an item of a chunk raised, and "
                "the items after it have not run"
            )
        except BaseException as error:
            raise ChunkFailed(results) from error
        finally:
            del results, result  # The traceback of a failure holds this frame.


def call_in_copy(scope: Scope, fn: Callable[..., Any], *args: Any) -> Any:
    """Call *fn* as the running job, in a copy of *scope*: contextvars and an app context."""
    scope = scope.copy()
    return scope.context.run(_call_item, scope, running_job.get(), fn, args)


def _call_item(scope: Scope, job: JobInfo, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # `Scope.call` would be two more Python calls for each item.
    scope.push()
    try:
        running_job.set(job)
        if isinstance(job, WorkItem) and (around := job.host.around):
            return call_around(around, job, fn, args, {})
        result = fn(*args)
        if type(result) is CoroutineType:  # Raises here, so that teardown functions see it.
            refuse_coroutine(job.name, result)
        return result
    finally:
        scope.pop(sys.exc_info()[1])
