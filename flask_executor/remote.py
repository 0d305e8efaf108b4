"""What runs on the far side of a process border."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["call_chunk", "call_coroutine_function"]

T = TypeVar("T")


def call_coroutine_function(
    fn: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any
) -> T:
    """Call *fn* and run its coroutine to the end, in a loop of its own."""
    return asyncio.run(fn(*args, **kwargs))


def call_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Call *fn* with each tuple of arguments; one journey there and back serves them all."""
    return [fn(*args) for args in chunk]
