"""Several items of a `map` as one job."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .futures import call_as_job, name_of, running_job
from .unawaited import refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .context import Scope
    from .futures import JobInfo

__all__ = ["Chunk", "ChunkFailed", "call_in_copy"]


class ChunkFailed(Exception):
    """An item of a chunk raised; *results* are those of the items before it."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results


class Chunk:
    """Calls a function for each item.

    :param call: what is called with the arguments of an item, and calls *fn* where it is to run
    """

    def __init__(self, fn: Callable[..., Any], call: Callable[..., Any]) -> None:
        self._fn = fn
        self._call = call
        self.__name__ = name_of(fn)

    def __call__(self, *items: tuple[Any, ...]) -> list[Any]:
        """Call it with each tuple of arguments; inside a job."""
        results: list[Any] = []
        call = self._call
        try:
            for args in items:
                result = call(*args)
                if type(result) is CoroutineType:
                    refuse_coroutine(self.__name__, result)
                results.append(result)
        except BaseException as error:
            raise ChunkFailed(results) from error
        else:
            return results
        finally:
            del results  # The traceback of a failure holds this frame.


def call_in_copy(scope: Scope, fn: Callable[..., Any], *args: Any) -> Any:
    """Call *fn* as the job at hand, in a copy of *scope*: contextvars and an app context."""
    return scope.copy().call(_call_item, running_job.get(), fn, *args)


def _call_item(job: JobInfo, fn: Callable[..., Any], *args: Any) -> Any:
    result = call_as_job(job, fn, *args)
    if type(result) is CoroutineType:  # Told here, where teardown functions hear of it.
        refuse_coroutine(job.name, result)
    return result
