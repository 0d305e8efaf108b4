"""A page to look at jobs, and their JSON: ``app.register_blueprint(board(executor, …))``."""

from __future__ import annotations

from .blueprint import board

__all__ = ["board"]
