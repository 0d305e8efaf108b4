"""The outcome of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import JobTimeout

if TYPE_CHECKING:
    from ..stats import End
    from .info import JobInfo


class Outcome:
    """The end of a job; decided once, as a request to cancel may still come afterwards.

    :param result: the return value; of a chunk that failed, the results of the items before
    """

    __slots__ = ("exception", "result", "state")

    def __init__(
        self, state: End, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self.state: End = state
        self.result: Any = result
        self.exception: BaseException | None = exception


def is_unexpected(job: JobInfo, exception: BaseException | None) -> bool:
    """Whether the failure of *job* is worth a line of the log: not if it was asked to stop."""
    return not job.cancel_requested or isinstance(exception, JobTimeout)
