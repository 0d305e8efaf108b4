"""One record as a row of the database's table: plain strings and numbers."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from ..jobs.progress import Progress
from .record import ENDED, JobRecord, RecordedError, host_name, moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from .entry import Entry


class Row(TypedDict):
    """All columns of a record; times are seconds since the epoch.

    ``key``, ``progress`` and ``result`` are JSON, of ASCII characters. The other texts have no
    characters that a database refuses. ``process`` names the process that has the job.
    """

    id: str
    app: str
    executor: str
    key: str | None
    name: str
    state: str
    attempt: int
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    progress: str | None
    result: str | None
    result_missing: str | None
    error_type: str | None
    error_message: str | None
    error_traceback: str | None
    host: str
    pid: int
    process: str


# The greatest numbers of characters.
MAX_NAME = 255
_MAX_MESSAGE, _MAX_TRACEBACK = 10_000, 100_000
MAX_RESULT = 1024 * 1024

# A provider may leave these as they are, and not each of them fits into each database.
_NO_ASCII = re.compile(r"[^\x00-\x7f]+")


def row_of(entry: Entry, *, app: str, process: str, dumps: Callable[[Any], str]) -> Row:
    """The row of *entry*; a result that cannot be written is dropped from the entry.

    :param app: the app's name
    :param process: names this process among all that use the database
    :param dumps: writes the JSON of a result
    """
    state = entry.state  # read first, as it is written last
    result = None
    if state == "succeeded" and entry.result_missing is None:
        result = _result_of(entry, dumps)
    error = entry.error
    return Row(
        id=entry.id,
        app=app,
        executor=entry.executor,
        key=None if entry.key is None else json.dumps(entry.key),
        name=text_for_column(entry.name, MAX_NAME),
        state=state,
        attempt=entry.attempt,
        submitted_at=entry.submitted_at,
        started_at=entry.started_at,
        ended_at=entry.ended_at if state in ENDED else None,
        progress=_progress_text(entry.progress),
        result=result,
        result_missing=entry.result_missing if state == "succeeded" else None,
        error_type=None if error is None else text_for_column(error.type, MAX_NAME),
        error_message=_cut(None if error is None else error.message, _MAX_MESSAGE),
        error_traceback=_end_of(None if error is None else error.traceback, _MAX_TRACEBACK),
        host=host_name(),
        pid=os.getpid(),
        process=process,
    )


def _result_of(entry: Entry, dumps: Callable[[Any], str]) -> str | None:
    try:
        text = _NO_ASCII.sub(_escape, dumps(entry.result))
    except BaseException as error:  # SystemExit, too, would end the thread that writes.
        entry.drop_result(f"it is not JSON: {type(error).__name__}")
        return None
    if len(text) > MAX_RESULT:
        entry.drop_result(f"it is too large: {len(text):,} bytes of JSON, and {MAX_RESULT:,} fit")
        return None
    return text


def _progress_text(progress: Progress | None) -> str | None:
    if progress is None:
        return None
    return json.dumps(progress.as_dict() | {"message": progress.message[:_MAX_MESSAGE]})


def _escape(found: re.Match[str]) -> str:
    """The same characters as JSON writes them in ASCII; they can only be part of a string."""
    return json.dumps(found.group())[1:-1]


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else text_for_column(text, length)


def _end_of(text: str | None, length: int) -> str | None:
    # The end of a traceback has the exception, and the line that raised it.
    return None if text is None else text_for_column(text[-length:], length)


def text_for_column(text: str, length: int) -> str:
    """The first *length* characters of *text*, without those that a database may refuse."""
    cut = text[:length].replace("\0", "\N{REPLACEMENT CHARACTER}")
    return cut.encode("utf-8", "replace").decode("utf-8")


def claim_of(app: str, executor: str, key: str) -> str:
    """The value of the unique column that keeps *key* for one job: 64 characters.

    A hash has one length and no case, so that no database takes two keys for the same.
    """
    return hashlib.sha256(json.dumps([app, executor, key]).encode()).hexdigest()


def record_of(row: Row, loads: Callable[[str], Any], *, is_alive: bool) -> JobRecord:
    """The record in *row*.

    :param loads: reads the JSON of a result
    :param is_alive: whether the process of the job has given a sign of life lately
    """
    state: Any = row["state"]
    ended_at = row["ended_at"]
    if ended_at is None and not is_alive:
        state = "lost"
    result, missing = None, row["result_missing"]
    if row["result"] is not None:
        try:
            result = loads(row["result"])
        except Exception as error_of_app:
            missing = f"the app cannot read its JSON: {type(error_of_app).__name__}"
    error = None
    if row["error_type"] is not None:
        error = RecordedError(row["error_type"], row["error_message"], row["error_traceback"])
    return JobRecord(
        id=row["id"],
        key=None if row["key"] is None else json.loads(row["key"]),
        name=row["name"],
        executor=row["executor"],
        state=state,
        attempt=row["attempt"],
        submitted_at=moment(row["submitted_at"]),
        started_at=None if row["started_at"] is None else moment(row["started_at"]),
        ended_at=None if ended_at is None else moment(ended_at),
        progress=None if row["progress"] is None else _progress_of(row["progress"]),
        result=result,
        result_missing=missing,
        error=error,
        host=row["host"],
        pid=row["pid"],
    )


def _progress_of(text: str) -> Progress:
    values = json.loads(text)
    return Progress(
        values["done"],
        values["total"],
        values["message"],
        started_at=datetime.fromisoformat(values["started_at"]),
        updated_at=datetime.fromisoformat(values["updated_at"]),
        rate=values["rate"],
    )
