"""The backends: how each is opened, and whether its workers share our memory."""

from __future__ import annotations

import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .exceptions import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from .settings import Settings

__all__ = ["BACKENDS", "Backend", "Pool", "find_backend"]


@dataclass(frozen=True, slots=True)
class Pool:
    """An open pool.

    :param executor: None if jobs run at once, in the thread that submits them
    :param max_workers: how many calls run at a time
    """

    executor: Executor | None
    max_workers: float


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to run jobs.

    :param open: makes the pool; starts no thread and no process
    :param in_process: whether jobs run in this process, where contexts and objects reach them as is
    :param inline: whether they run in the thread that submits them
    """

    open: Callable[[Settings, str], Pool]
    in_process: bool
    inline: bool = False


def find_backend(settings: Settings) -> Backend:
    """Look up the backend that ``EXECUTOR_TYPE`` names.

    :raises InvalidSetting: if there is none of that name, or another setting does not go with it
    """
    if settings.type not in BACKENDS:
        expected = ", ".join(map(repr, BACKENDS))
        raise InvalidSetting(
            f"{settings.prefix}TYPE is {settings.type!r}; expected one of {expected}"
        )
    if settings.mp_context == "fork" and settings.max_tasks_per_child is not None:
        raise InvalidSetting(
            f"{settings.prefix}MAX_TASKS_PER_CHILD is {settings.max_tasks_per_child} and "
            f"{settings.prefix}MP_CONTEXT is 'fork', which cannot replace its workers; expected "
            "'spawn' or 'forkserver' with it"
        )
    return BACKENDS[settings.type]


def _open_threads(settings: Settings, thread_name_prefix: str) -> Pool:
    pool = ThreadPoolExecutor(settings.max_workers, thread_name_prefix)
    return Pool(pool, pool._max_workers)


def _open_processes(settings: Settings, _: str) -> Pool:
    start_method = settings.mp_context
    pool = ProcessPoolExecutor(
        settings.max_workers,
        mp_context=multiprocessing.get_context(start_method) if start_method else None,
        max_tasks_per_child=settings.max_tasks_per_child,
    )
    return Pool(pool, pool._max_workers)  # type: ignore[attr-defined]


def _open_inline(_: Settings, __: str) -> Pool:
    return Pool(None, math.inf)


BACKENDS: dict[str, Backend] = {
    "thread": Backend(_open_threads, in_process=True),
    "process": Backend(_open_processes, in_process=False),
    "inline": Backend(_open_inline, in_process=True, inline=True),
}
