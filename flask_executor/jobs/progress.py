"""The progress of a job, as others see it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


class Progress:
    """How far a job was at its last report; the value of `JobFuture.progress`.

    It cannot be changed. In JSON, return `as_dict()`.

    :param done: how much was done, in any unit
    :param total: how much there is to do, if that is known
    :param message: the text of the report
    :param started_at: when the job reported first, or reported a smaller *done* than before
    :param updated_at: when it reported last
    :param rate: how much was done per second between these two; None if that is unknown
    """

    done: float
    total: float | None
    message: str
    started_at: datetime
    updated_at: datetime
    rate: float | None

    # No dataclass: making one takes as long as importing several modules.
    def __init__(
        self,
        done: float,
        total: float | None = None,
        message: str = "",
        *,
        started_at: datetime,
        updated_at: datetime,
        rate: float | None = None,
    ) -> None:
        vars(self).update(
            done=done,
            total=total,
            message=message,
            started_at=started_at,
            updated_at=updated_at,
            rate=rate,
        )

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None without a total."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0

    @property
    def time_left(self) -> float | None:
        """Seconds from `updated_at` to the end at the present rate; None if that is unknown."""
        if self.total is None:
            return None
        left = self.total - self.done
        if left <= 0:
            return 0.0
        seconds = left / self.rate if self.rate else math.inf
        return seconds if seconds < math.inf else None

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON; the times are texts in the format of ISO 8601."""
        return {
            "done": self.done,
            "total": self.total,
            "message": self.message,
            "fraction": self.fraction,
            "rate": self.rate,
            "time_left": self.time_left,
            "started_at": self.started_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: a Progress does not change")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Progress) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"Progress({values})"
