"""Which records a list is to have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .record import RecordState


class Wanted(NamedTuple):
    """Which records a list is to have; None for all.

    :param name: that of the job's function
    :param limit: how many records at most: those of the jobs that were submitted last
    :param before: an id; only jobs that were submitted before that one
    :param key: only jobs whose key is a str that begins with this text
    :param results: whether to read results and tracebacks, which may be large
    """

    state: RecordState | None
    name: str | None
    limit: int
    before: str | None
    key: str | None = None
    results: bool = True
