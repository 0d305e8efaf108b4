"""Executors and jobs with options for the next submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .submitting.any_function import Submitter
from .submitting.one_function import FunctionSubmitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .app_executor import AppExecutor
    from .jobs.options import OptionValues

__all__ = ["JobOptions", "Options"]

P = ParamSpec("P")
T = TypeVar("T")


class Options(Submitter):
    """An executor's ways to submit, with options; made by `Executor.options`."""

    __slots__ = ("_find_app_executor", "_options")

    def __init__(self, find_app_executor: Callable[[], AppExecutor], options: OptionValues) -> None:
        self._find_app_executor = find_app_executor
        self._options = options

    def _here(self) -> AppExecutor:
        return self._find_app_executor()


class JobOptions(FunctionSubmitter[P, T]):
    """A job's ways to submit itself, with options; made by `Job.options`."""

    def __init__(self, options: Options, fn: Callable[P, T]) -> None:
        self._options = options
        self._fn = fn

    def _submitter(self) -> tuple[Submitter, Callable[P, T]]:
        return self._options, self._fn
