"""Failures and warnings in the app's log."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def log_failure(app: Flask, exception: BaseException, message: str, *args: object) -> None:
    """Log *message* with the traceback of *exception* on the app's logger.

    It never raises, because the job must go on to its end. If a log handler raises, its exception
    and *exception* go to standard error.
    """
    try:
        app.logger.error(message, *args, exc_info=exception)
    except BaseException:
        traceback.print_exception(exception)
        traceback.print_exc()


def log_line(app: Flask, level: int, message: str, *args: object) -> None:
    """Log *message* on the app's logger; it never raises, as `log_failure`."""
    try:
        app.logger.log(level, message, *args)
    except BaseException:
        traceback.print_exc()
