"""The metrics of several processes: whichever answers, it answers for all."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.served.servers import APPS, served
from tests.support import ROOT, WAIT

# The `gunicorn.conf.py` that the docs show.
[CONFIG] = re.findall(
    r"^```python\n([^`]*def child_exit[^`]*)^```$",
    (ROOT / "docs/howto/prometheus.md").read_text("utf-8"),
    re.MULTILINE,
)
GUNICORN = (
    "gunicorn -c {config} -w 3 -k gthread --threads 4 {options} -b 127.0.0.1:0 --no-control-socket "
    "served_metrics:app"
)

pytestmark = pytest.mark.slow


@contextmanager
def running(options: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    config, files = tmp_path / "gunicorn.conf.py", tmp_path / "metrics"
    config.write_text(CONFIG, "utf-8")
    files.mkdir()
    patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(files))
    with served(GUNICORN.format(config=config, options=options), APPS) as client:
        yield client


def scrape(client: httpx.Client) -> dict[str, float]:
    """The values of the metrics, by name and labels."""
    text = client.get("/metrics").text
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = [value for key, value in sample.labels.items() if key in {"name", "state"}]
            name = sample.name.removeprefix("flask_executor_")
            values[f"{name} {','.join(labels)}".strip()] = sample.value
    return values


def until(client: httpx.Client, **expected: float) -> dict[str, float]:
    """Scrape again and again until the values are as expected, three times running."""
    end, met = time.monotonic() + WAIT, 0
    while met < 3:
        values = scrape(client)
        met = met + 1 if expected.items() <= values.items() else 0
        assert time.monotonic() < end, values
        if not met:
            time.sleep(0.05)
    return values


def post(client: httpx.Client, path: str, times: int = 1, **params: object) -> set[int]:
    """Send so many requests at once; the ids of the processes that have answered."""
    with ThreadPoolExecutor(8) as threads:
        return set(threads.map(lambda _: int(client.post(path, params=params).text), range(times)))


def reach_all(client: httpx.Client) -> int:
    """Submit jobs until each of the three processes had some; return how many they were."""
    end, jobs, pids = time.monotonic() + WAIT, 0, set()
    while len(pids) < 3:
        assert time.monotonic() < end, pids
        pids |= post(client, "/jobs/pow", 8)
        jobs += 8
    return jobs


@pytest.mark.parametrize("options", ["", "--preload"], ids=["loaded-by-each", "preload"])
def test_the_processes_add_up_also_when_one_is_killed(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(options, tmp_path, monkeypatch) as client:
        pows = reach_all(client)
        for name in ("fail", "fail_once", "later"):
            post(client, f"/jobs/{name}", 10)

        ends = {
            "jobs_total pow,succeeded": pows,
            "jobs_total fail,failed": 10,
            "jobs_total fail_once,succeeded": 10,
            "jobs_total later,succeeded": 10,
            "retries_total fail_once": 10,
            "run_seconds_count fail_once": 20,
            "wait_seconds_count fail_once": 20,
            "run_seconds_count later": 10,
        }
        until(client, **ends, pending=0, running=0, workers=6)

        with socket.create_server(("127.0.0.1", 0)) as door:
            door.settimeout(WAIT)
            host, port = door.getsockname()
            [busy] = post(client, "/held", host=host, port=port, jobs=3)
            held = [door.accept()[0] for _ in range(2)]
            assert {int(each.recv(64)) for each in held} == {busy}
            until(client, **ends, pending=1, running=2, workers=6)

            os.kill(busy, signal.SIGKILL)

            # Another process takes its place; what the dead one has counted stays.
            until(client, **ends, pending=0, running=0)
            more = reach_all(client)
            ends["jobs_total pow,succeeded"] += more
            until(client, **ends, pending=0, running=0, workers=6)
            for each in held:
                each.close()


def test_a_job_that_ran_before_the_fork_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBMIT_EARLY", "1")
    with running("--preload", tmp_path, monkeypatch) as client:
        jobs = reach_all(client)

        # The process that the others are forked from has run a job, so its workers count, too.
        until(client, **{"jobs_total pow,succeeded": jobs + 1}, pending=0, running=0, workers=8)


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("waiting", ["2 2 2", "1 2 2", "0 0 2"]),
        ("cancelled_at_once", ["0 0 0", "0 0 2"]),
        ("retried", ["1 0 2", "0 0 2"]),
        ("overdue", ["0 0 2", "0 0 2"]),
        ("others", ["0 0 0", "0 0 2", "0 0 2"]),
        ("nested", ["0 0 2", "0 0 2"]),
    ],
)
def test_the_gauges_of_a_process_follow_its_jobs(
    what: str, lines: list[str], tmp_path: Path
) -> None:
    environment = os.environ | {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "WHAT": what,
        "PYTHONPATH": f"{APPS}{os.pathsep}{ROOT}",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import metered_app; metered_app.main()"],
        cwd=APPS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * WAIT,
        check=False,
    )

    assert (done.stdout.splitlines(), done.stderr) == (lines, "")
