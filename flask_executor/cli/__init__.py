"""The command ``flask executor``."""

from __future__ import annotations

from .group import commands

__all__ = ["commands"]
