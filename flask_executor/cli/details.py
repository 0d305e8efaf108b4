"""All that is known of a job, in lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..records.record import time_left, time_running
from .words import (
    LINE,
    ago,
    clock_time,
    duration,
    how_much,
    key_of,
    visible,
    visible_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ..records.record import JobRecord

_TEXT = 10_000  # characters of a result or a message
_TRACEBACK = 100_000


def details_of(record: JobRecord, now: datetime) -> Iterator[tuple[str, Sequence[str]]]:
    """The names and the values, each in lines, of all that is known of a job."""
    yield "state", [record.state]
    yield "job", [visible(record.name, LINE)]
    yield "key", [key_of(record, LINE) or "none"]
    yield "id", [record.id]
    yield "executor", [record.executor or "the one without a name"]
    yield "process", [f"{record.pid} on {visible(record.host, LINE)}"]
    yield "attempt", [str(record.attempt)]
    for name, moment in (
        ("submitted", record.submitted_at),
        ("started", record.started_at),
        ("ended", record.ended_at),
    ):
        if moment is not None:
            yield name, [f"{clock_time(moment)}, {ago(moment, now)}"]
    if record.waited is not None:
        yield "waited", [duration(record.waited)]
    seconds = time_running(record, now)
    if seconds is not None:
        yield "ran", [duration(seconds)]
    if record.progress is not None:
        yield "progress", [how_much(record.progress)]
        left = time_left(record.progress, now)
        if left is not None and record.state == "running":
            yield "left", [f"about {duration(left)}"]
    yield from _outcome(record)


def _outcome(record: JobRecord) -> Iterator[tuple[str, Sequence[str]]]:
    if record.error is not None:
        yield "error", [visible(record.error.type, LINE)]
        if record.error.message is not None:
            yield "message", visible_lines(record.error.message, _TEXT)
        if record.error.traceback is not None:
            yield "traceback", visible_lines(record.error.traceback.rstrip(), _TRACEBACK)
    if record.state != "succeeded":
        return
    found = record.as_dict()  # whose result is plain JSON
    if found["result_missing"] is not None:
        yield "result", [f"not here: {visible(found['result_missing'], LINE)}"]
    else:
        text = json.dumps(found["result"], indent=2, ensure_ascii=False)
        yield "result", visible_lines(text, _TEXT)
