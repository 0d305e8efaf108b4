"""What runs on the far side of a process border."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["call_chunk"]

T = TypeVar("T")


def call_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Call *fn* with each tuple of arguments; one journey there and back serves them all."""
    return [fn(*args) for args in chunk]
