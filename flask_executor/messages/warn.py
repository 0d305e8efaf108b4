"""Warnings that point at the code that uses this package."""

from __future__ import annotations

import sys
import warnings

from .traces import is_of_this_package


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn with the line of code that called this package."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - inspect's takes longer
    while frame.f_back is not None and is_of_this_package(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
