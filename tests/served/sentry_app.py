"""The app whose events test_sentry.py reads: ``sentry_app.py TYPE [OPTION ...]``.

Prints a line of JSON for each request: the path, and the events that Sentry would have got. The
options: ``no-integration`` with Flask, ``propagate`` exceptions, ``scope`` for each job.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sentry_sdk
from flask import Flask, request
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.transport import Transport

from flask_executor import Executor, Retry, current_job, job_failed

events: list[dict[str, Any]] = []


class Collect(Transport):
    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event()
        if event:
            events.append(event)


@job_failed.connect
def remember_job(sender: Flask, job: Any, exception: BaseException, **_: Any) -> None:
    vars(exception).update(job_name=job.name)


def name_job(event: Any, hint: dict[str, Any]) -> Any:
    error = hint.get("exc_info", (None, None, None))[1]
    name = current_job.name if current_job else getattr(error, "job_name", None)
    if name is not None:
        event.setdefault("tags", {})["job"] = name
    return event


app = Flask("app")
app.config["EXECUTOR_APP"] = "sentry_app:app"
app.config["EXECUTOR_TYPE"] = sys.argv[1] if __name__ == "__main__" else "inline"
app.config["EXECUTOR_MP_CONTEXT"] = "fork"  # The jobs are functions of the script that runs.
app.config["EXECUTOR_PROPAGATE_EXCEPTIONS"] = "propagate" in sys.argv
executor = Executor(app)

if "scope" in sys.argv:

    @executor.around_job
    @contextmanager
    def sentry_scope(job: Any) -> Iterator[None]:
        with sentry_sdk.isolation_scope() as scope:
            scope.set_tag("job", job.name)
            yield


def succeed() -> None:
    pass


def fail() -> None:
    raise ValueError("on purpose")


async def fail_later() -> None:
    raise ValueError("on purpose")


def sleep() -> None:
    time.sleep(0.3)


def tag(event: str) -> None:
    """Send an event, with a tag."""
    sentry_sdk.set_tag("tagged in", current_job.name)
    sentry_sdk.capture_message(event)


JOBS = {each.__name__: each for each in (succeed, fail, fail_later, sleep)}


@app.get("/tag")
def view_that_sends_events() -> str:
    executor.submit(tag, "in the job").result()
    sentry_sdk.capture_message("in the view")
    executor.submit(sentry_sdk.capture_message, "in the next job").result()
    return ""


@app.get("/<name>")
def view(name: str) -> str:
    fn, how = JOBS[name], request.args.get("how", "")
    if how == "retry":
        executor.options(retry=Retry(3, delay=0)).submit(fn)
    elif how == "timeout":
        executor.options(timeout=0.01).submit(fn)
    elif how == "key":
        executor.submit_stored(f"key of {name}", fn)
    elif how == "result":
        executor.submit(fn).result()
    elif how == "exception":
        executor.submit(fn).exception()
    else:
        executor.submit(fn)
    return ""


def main() -> None:
    sentry_sdk.init(
        "https://key@sentry.invalid/1",
        transport=Collect,
        before_send=name_job,
        # Those for other packages would import each of them that is installed.
        auto_enabling_integrations=False,
        integrations=[] if "no-integration" in sys.argv else [FlaskIntegration()],
    )
    client = app.test_client()
    for line in sys.stdin:
        path = line.strip()
        client.get(path)
        executor.drain()
        gc.collect()  # A failure that nobody asks for is logged once its future is gone.
        shown = [
            {
                "url": event.get("request", {}).get("url"),
                "job": event.get("tags", {}).get("job"),
                "error": event["exception"]["values"][-1]["type"],
            }
            if "exception" in event
            else [event["message"], event.get("tags", {})]
            for event in events
        ]
        events.clear()
        print(json.dumps([path, shown]), flush=True)  # noqa: T201 - for the test


if __name__ == "__main__":
    main()
