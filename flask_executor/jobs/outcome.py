"""How a job ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..stats import End


class Outcome:
    """How a job ended; decided once, as a request to cancel may still come afterwards.

    :param result: the return value; of a chunk that failed, the results of the items before
    """

    __slots__ = ("exception", "result", "state")

    def __init__(
        self, state: End, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self.state: End = state
        self.result: Any = result
        self.exception: BaseException | None = exception
