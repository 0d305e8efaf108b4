"""Several items of a `map` as one job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .futures import call_as_job, name_of, running_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from .context import Scope

__all__ = ["ChunkFailed", "ChunkHere"]


class ChunkFailed(Exception):
    """An item of a chunk raised; *results* are those of the items before it."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results


class ChunkHere:
    """Calls a function for each item, in contextvars and an app context of the item's own.

    :param scope: what each item sees a copy of
    """

    def __init__(self, fn: Callable[..., Any], scope: Scope) -> None:
        self._fn = fn
        self._scope = scope
        self.__name__ = name_of(fn)

    def __call__(self, *items: tuple[Any, ...]) -> list[Any]:
        """Call it with each tuple of arguments; inside a job."""
        results: list[Any] = []
        fn, scope, job = self._fn, self._scope, running_job.get()
        for args in items:
            try:
                results.append(scope.copy().call(call_as_job, job, fn, *args))
            except BaseException as error:
                raise ChunkFailed(results) from error
        return results

    def __repr__(self) -> str:
        return repr(self._fn)
