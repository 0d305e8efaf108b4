"""Taking turns: threads that want the same thing get it one after the other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .conditions import LightFuture

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable
    from concurrent.futures import Future


class Turns:
    """Lets threads take turns for a key; those for other keys do not wait."""

    def __init__(self) -> None:
        # Needs no lock: a thread adds and removes its own turn by a single call of C code.
        self._current: dict[Hashable, Future[None]] = {}

    @contextmanager
    def take(self, key: Hashable) -> Generator[None]:
        """Wait until no other thread has the turn for *key*, and have it during the block."""
        mine: Future[None] = LightFuture()
        try:
            while (other := self._current.setdefault(key, mine)) is not mine:
                other.result()
            yield
        finally:
            if self._current.get(key) is mine:
                del self._current[key]
            mine.set_result(None)
