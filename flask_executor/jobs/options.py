"""The options of one submission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..settings import check_timeout, check_wait

if TYPE_CHECKING:
    from collections.abc import Hashable


class Group(Protocol):
    """The group that a job belongs to: `flask_executor.group.JobGroup`."""

    def add(self, future: Any) -> None:
        """Take in the future of a job that is being submitted."""

    def add_waiter(self, waiter: Any) -> None:
        """Take in the future of `submit_async`; it is done when the block ends."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class OptionValues:
    """The options of a submission; None for each that is not given. See `Executor.options`."""

    key: Hashable | None = None
    timeout: float | None = None
    delay: float | None = None
    queue_timeout: float | None = None
    group: Group | None = None

    def __post_init__(self) -> None:
        check_timeout(self.timeout)
        check_wait("delay", self.delay)
        check_wait("queue_timeout", self.queue_timeout)
        hash(self.key)

    def over(self, other: OptionValues) -> OptionValues:
        """These options, and those of *other* that are not given here."""
        if other is NO_OPTIONS or other is self:
            return self
        if self is NO_OPTIONS:
            return other
        return OptionValues(
            key=other.key if self.key is None else self.key,
            timeout=other.timeout if self.timeout is None else self.timeout,
            delay=other.delay if self.delay is None else self.delay,
            queue_timeout=other.queue_timeout if self.queue_timeout is None else self.queue_timeout,
            group=other.group if self.group is None else self.group,
        )


NO_OPTIONS = OptionValues()

OPTION_NAMES = frozenset(OptionValues.__slots__) - {"group"}
