"""The filters in the query of a request."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records.record import STATES
from ..records.row import MAX_NAME, text_for_column
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..records import RecordState

_MAX_LIMIT = 500
_ID = re.compile(r"[0-9a-f-]{1,36}")
_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Filters:
    """The jobs that a request asks for; None stands for all.

    :param key: the beginning of the key
    :param before: an id; for the next page
    """

    state: RecordState | None
    name: str | None
    key: str | None
    executor: str | None
    before: str | None
    limit: int

    def as_query(self) -> dict[str, Any]:
        """The filters as the query of a URL, without the page."""
        values = {
            "state": self.state,
            "name": self.name,
            "key": self.key,
            "executor": self.executor,
        }
        return {name: value for name, value in values.items() if value is not None}


def filters_of(args: Mapping[str, str], executors: Collection[str], *, limit: int = 100) -> Filters:
    """Read the query of a URL. An empty value, as forms send it, is no filter.

    :param executors: their names; one without a name can be asked for as "-"
    :param limit: how many jobs, if the query does not say
    :raises Problem: if a value cannot be
    """
    state, executor = args.get("state") or None, args.get("executor") or None
    if state is not None and state not in STATES:
        raise _bad("state", f"one of {', '.join(STATES)}")
    if executor is not None:
        executor = "" if executor == "-" else executor
        if executor not in executors:
            names = ", ".join(name or "-" for name in executors)
            raise _bad("executor", f"one of {names}; the executor without a name is -")
    before = args.get("before") or None
    if before is not None and not _ID.fullmatch(before):
        raise _bad("before", "the id of a job")
    text = args.get("limit") or str(limit)
    if not (_NUMBER.fullmatch(text) and 1 <= int(text) <= _MAX_LIMIT):
        raise _bad("limit", f"a number from 1 to {_MAX_LIMIT}")
    name = args.get("name") or None
    return Filters(
        state=state,
        name=None if name is None else text_for_column(name, MAX_NAME),
        key=args.get("key") or None,
        executor=executor,
        before=before,
        limit=int(text),
    )


def _bad(name: str, expected: str) -> Problem:
    return Problem(400, "The address asks for something that cannot be", f"{name} is {expected}.")
