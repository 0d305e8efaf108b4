"""Where the jobs of the deployed app write down what they do."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe: IO[str]) -> Path:
    """The file into which the jobs of `deployed_app` write; held jobs wait for the pipe."""
    journal = tmp_path / "journal"
    monkeypatch.setenv("JOURNAL", str(journal))
    monkeypatch.setenv("PIPE", pipe.name)
    return journal
