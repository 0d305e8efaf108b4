"""Records of jobs: what is known of a job, in whichever process it runs."""

from __future__ import annotations

from .history import Minute, Spread
from .process import ProcessRecord
from .record import JobRecord, RecordedError, RecordState

__all__ = ["JobRecord", "Minute", "ProcessRecord", "RecordState", "RecordedError", "Spread"]
