"""The time that a coroutine may take."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import JobTimeout

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["timeout_error", "within"]

T = TypeVar("T")


async def within(work: Coroutine[Any, Any, T], seconds: float | None, name: str) -> T:
    """Await *work*, and cancel it when its time is up.

    :raises JobTimeout: if it was, whatever came of that
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            if seconds is not None:
                due = asyncio.get_running_loop().time() + seconds
                # A timer keeps the contextvars it was set in until it is due, also if it is
                # cancelled. These are empty ones.
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
    """What a job fails with that takes too long."""
    return JobTimeout(f"the job {name!r} has not ended within its {seconds} s")
