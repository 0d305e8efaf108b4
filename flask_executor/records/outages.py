"""Lines of the log about a database that is away."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..exceptions import InvalidSetting
from ..messages.log import log_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask


class OutageNotices:
    """Warns that the database of an app is away, that it is back, and what was not written.

    :param find_app: returns the app, which this must not keep alive; None if it is gone
    :param setting: the config key of the database
    """

    def __init__(self, find_app: Callable[[], Flask | None], setting: str) -> None:
        self._find_app = find_app
        self._setting = setting

    def away(self, error: BaseException) -> None:
        """Warn that the database fails, or does not answer."""
        self._warn(
            "The database of %s %s (%s). Jobs go on, and their records are written once it "
            "answers; until then, the key of a job is unique in this process only",
            self._setting,
            "does not answer" if isinstance(error, TimeoutError) else "fails",
            error if isinstance(error, InvalidSetting) else type(error).__name__,
        )

    def back(self, lost: int) -> None:
        """Warn that it answers again; so many jobs have no record."""
        jobs = f"{_jobs_have(lost)} no record" if lost else "no record is lost"
        self._warn("The database of %s answers again; %s", self._setting, jobs)

    def unwritten(self, jobs: int) -> None:
        """Warn that the app has shut down before all was written."""
        self._warn(
            "Shut down before the database of %s had taken all records: %s a record that is not up "
            "to date, or none",
            self._setting,
            _jobs_have(jobs),
        )

    def _warn(self, message: str, *args: object) -> None:
        app = self._find_app()
        if app is not None:
            log_line(app, logging.WARNING, message, *args)


def _jobs_have(count: int) -> str:
    return "1 job has" if count == 1 else f"{count} jobs have"
