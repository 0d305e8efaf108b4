"""The time limit of a coroutine."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Coroutine


T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], seconds: float | None, name: str) -> T:
    """Await *work*, and cancel it after *seconds*; None for no limit.

    :raises JobTimeout: if the time was up, even if *work* then returned or raised another error
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            if seconds is not None:
                due = asyncio.get_running_loop().time() + seconds
                # Even a cancelled timer keeps its contextvars until it is due: give it none.
                Context().run(limit.reschedule, due)
            result = await work
    except BaseException as error:
        if not limit.expired():
            raise
        raise timeout_error(name, seconds) from error
    if limit.expired():
        raise timeout_error(name, seconds)
    return result


def timeout_error(name: str, seconds: float | None) -> JobTimeout:
    """The error of a job that takes longer than its timeout."""
    return JobTimeout(f"the job {name!r} has not ended within its {seconds} s")
