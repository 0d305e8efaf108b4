"""The examples of the page on async database sessions, which need an async driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.served.test_docs import ASYNC_DATABASES, run_apart


def test_the_examples_of_the_page_on_async_databases_work(tmp_path: Path) -> None:
    pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")

    done = run_apart(ASYNC_DATABASES, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
