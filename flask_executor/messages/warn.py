"""Warnings that point at the code of the app."""

from __future__ import annotations

import sys
import warnings

from .traces import is_of_this_package


def warn_caller(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Warn with *message*, at the line outside of this package from where it was called."""
    level, frame = 2, sys._getframe(1)  # noqa: SLF001 - inspect's takes longer
    while frame.f_back is not None and is_of_this_package(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
