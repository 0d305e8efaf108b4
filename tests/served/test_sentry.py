"""What Sentry gets of jobs, with its own SDK: an event for each job that fails, and no other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from tests.served.servers import APPS
from tests.support import ROOT

pytestmark = pytest.mark.slow

# The name of the job and the type of the error that are sent for a request.
EXPECTED: dict[str, tuple[str, str] | None] = {
    "/succeed": None,
    "/succeed?how=retry": None,
    "/fail": ("fail", "ValueError"),
    "/fail_later": ("fail_later", "ValueError"),
    "/fail?how=retry": ("fail", "ValueError"),
    "/fail_later?how=retry": ("fail_later", "ValueError"),
    "/fail?how=key": ("fail", "ValueError"),
    "/fail_later?how=key": ("fail_later", "ValueError"),
    "/sleep?how=timeout": ("sleep", "JobTimeout"),
    # The view raises the error of the job, or handles it.
    "/fail?how=result": ("fail", "ValueError"),
    "/fail_later?how=result": ("fail_later", "ValueError"),
    "/fail?how=exception": None,
}


def events_of(*args: str, paths: Iterable[str] = EXPECTED) -> dict[str, list[Any]]:
    """The events of each request. The app has a process of its own, as the SDK patches much."""
    done = subprocess.run(
        # Eventlet warns when the SDK imports it.
        [sys.executable, "-W", "ignore", "sentry_app.py", *args],
        cwd=APPS,
        env=os.environ | {"PYTHONPATH": f"{APPS}{os.pathsep}{ROOT}"},
        input="\n".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", ["thread", "inline", "process"])
def test_a_failing_job_is_one_event_with_its_name_and_its_request(kind: str) -> None:
    events = events_of(kind)

    assert events == {
        path: [
            {"url": f"http://localhost{path.partition('?')[0]}", "job": name, "error": error}
            for name, error in [expected]
        ]
        if (expected := EXPECTED[path])
        else []
        for path in EXPECTED
    }


def test_without_the_integration_of_flask_it_is_one_event_without_the_request() -> None:
    events = events_of("thread", "no-integration")

    assert events == {
        path: [{"url": None, "job": expected[0], "error": expected[1]}] if expected else []
        for path, expected in EXPECTED.items()
    }


def test_a_failure_that_is_propagated_is_an_event_at_once_and_a_second_one_of_the_view() -> None:
    events = events_of("thread", "propagate", paths=["/fail?how=exception", "/fail?how=result"])

    assert [len(found) for found in events.values()] == [1, 2]


@pytest.mark.parametrize("has_scope", [False, True])
def test_a_tag_of_a_job_is_that_of_its_request_unless_each_job_has_a_scope(has_scope: bool) -> None:
    events = events_of("thread", *(["scope"] if has_scope else []), paths=["/tag"])

    of_job = {"tagged in": "tag"}
    of_others = {} if has_scope else of_job
    assert events["/tag"] == [
        ["in the job", {"job": "tag"} | of_job],
        ["in the view", of_others],
        ["in the next job", {"job": "capture_message"} | of_others],
    ]
