"""The options of one submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from ..messages.shown import kind_of, shown_setting
from ..settings import check_timeout, check_wait
from .retry import check_retry

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .retry import Retry


OnDuplicate = Literal["raise", "return", "replace"]


class Group(Protocol):
    """The group that a job belongs to: `flask_executor.group.JobGroup`."""

    def add(self, future: Any) -> None:
        """Take in the future of a job that is being submitted."""

    def add_waiter(self, waiter: Any) -> None:
        """Take in the future of `submit_async`; it is done when the block ends."""


class OptionValues:
    """The options of a submission; None for each that is not given. See `Executor.options`.

    :raises TypeError: if one of the three times is not a number, or *key* cannot be hashed
    :raises ValueError: if *timeout* is not above 0, or one of the others is below 0
    """

    # No dataclass: making one takes as long as importing several modules.
    __slots__ = (
        "after",
        "delay",
        "group",
        "key",
        "on_duplicate",
        "queue_timeout",
        "retry",
        "timeout",
    )

    def __init__(
        self,
        *,
        key: Hashable | None = None,
        timeout: float | None = None,
        delay: float | None = None,
        queue_timeout: float | None = None,
        on_duplicate: OnDuplicate | None = None,
        retry: Retry | None = None,
        after: object = None,
        group: Group | None = None,
    ) -> None:
        check_timeout(timeout)
        check_wait("delay", delay)
        check_wait("queue_timeout", queue_timeout)
        check_retry(retry)
        if key is not None:
            check_key(key)
        if on_duplicate is not None and on_duplicate not in get_args(OnDuplicate):
            raise ValueError(
                f"on_duplicate is {shown_setting(on_duplicate)}; expected 'raise', 'return' or "
                "'replace'"
            )
        self.key: Hashable | None = key
        self.timeout: float | None = timeout
        self.delay: float | None = delay
        self.queue_timeout: float | None = queue_timeout
        self.on_duplicate: OnDuplicate | None = on_duplicate
        self.retry: Retry | None = retry
        self.after: object = after
        self.group: Group | None = group

        _check_after(self.after)
        if self.after == "response" and self.group is not None:
            raise TypeError(
                "a group cannot have jobs with after='response': the group would wait for them, "
                "and they for the end of the view; submit them with the executor"
            )

    def check_complete(self) -> None:
        """Refuse options that need another one, which is not given.

        :raises TypeError: if *on_duplicate* is given without a key
        """
        if self.on_duplicate is not None and self.key is None:
            raise TypeError(
                f"on_duplicate={self.on_duplicate!r} is for a job with a key, and there is none; "
                "give one: options(key=...), or submit_stored(key, fn, *args)"
            )

    def check_for_map(self, chunksize: int) -> None:
        """Refuse options that are for one job, or for one call.

        :raises TypeError: if a key or *on_duplicate* is given, or a retry of chunks
        """
        if self.key is not None:
            raise TypeError("a key is for one job, and map makes a job of each item; leave it out")
        if self.on_duplicate is not None:
            raise TypeError(
                "on_duplicate is for a job with a key, and map makes jobs without keys; submit "
                "each item by itself: options(key=...).submit(fn, item)"
            )
        if self.retry is not None and chunksize > 1:
            raise TypeError(
                "retry is for one call, and a chunk makes several: items that have run would run "
                "again; leave out the retry, or use chunksize=1"
            )

    def over(self, other: OptionValues) -> OptionValues:
        """These options, and those of *other* that are not given here."""
        if other is NO_OPTIONS or other is self:
            return self
        if self is NO_OPTIONS:
            return other
        merged: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            merged[name] = getattr(other, name) if value is None else value
        return OptionValues(**merged)

    def with_timeout(self, timeout: float) -> OptionValues:
        """These options with another timeout."""
        return OptionValues(timeout=timeout).over(self)


def check_key(key: Hashable) -> None:
    """Refuse a value that cannot be the key of a future.

    :raises TypeError: if *key* is None or cannot be hashed
    """
    if key is None:
        raise TypeError("None cannot be a key: it says that a future is not stored")
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"{kind_of(key)} cannot be a key: it is unhashable; expected a string, for example"
        ) from None


def _check_after(after: object) -> None:
    if after is None or (isinstance(after, str) and after == "response"):
        return
    from ..events.commit import is_session  # noqa: PLC0415 - few apps need it

    if is_session(after):
        return
    error = ValueError if isinstance(after, str) else TypeError
    raise error(
        f"after is {shown_setting(after)}; expected 'response', or a session of SQLAlchemy: a "
        "Session, a scoped_session or an AsyncSession, such as db.session"
    )


NO_OPTIONS = OptionValues()


def options_of(**given: Any) -> OptionValues:
    """The options that are *given*, as `OptionValues` takes them; `NO_OPTIONS` if all are None."""
    if all(value is None for value in given.values()):
        return NO_OPTIONS
    return OptionValues(**given)


OPTION_NAMES = frozenset(OptionValues.__slots__) - {"group"}
