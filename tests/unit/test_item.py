"""A job's state, and who may change it: no app, no queue, no pool."""

from __future__ import annotations

from concurrent.futures import CancelledError
from contextvars import copy_context
from functools import partial
from typing import Any, get_args

import pytest

from flask_executor import JobFuture, Retry
from flask_executor.jobs.item import ItemState, WorkItem
from flask_executor.jobs.retry import Retrying
from tests.support import at_once


class Host:
    """Stands for the app that a job belongs to."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def on_cancelled(self, item: WorkItem) -> None:
        assert item.future is not None
        self.cancelled.append(item.future.state)


def make_job() -> tuple[WorkItem, JobFuture[int], Host]:
    host: Any = Host()
    scope: Any = object()
    item = WorkItem(host, scope, int, (), {}, timeout=1)
    return item, JobFuture(item), host


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        (["running"], "running"),
        (["cancelled"], "cancelled"),
        (["running", "ended"], "running"),
        (["running", "overdue"], "running"),
    ],
)
def test_a_claim_is_granted_once_and_only_in_the_order_of_a_jobs_life(
    steps: list[ItemState], state: str
) -> None:
    item, future, _ = make_job()

    assert [item.claim(step) for step in steps] == [True] * len(steps)
    assert future.state == state
    refused = [each for each in ("running", "cancelled", "overdue", "ended") if item.claim(each)]
    assert refused == (["overdue"] if steps == ["running"] else [])


@pytest.mark.parametrize("when", ["before the look", "after the look"])
def test_a_job_that_goes_back_as_it_is_cancelled_is_cancelled_as_one_that_waits(when: str) -> None:
    class Racing(JobFuture[int]):
        """Its job goes back into the queue as `cancel` looks whether it runs."""

        def running(self) -> bool:
            is_running = super().running()
            self.job.set_pending()
            return is_running if when == "after the look" else super().running()

    item, _, host = make_job()
    scope: Any = copy_context()
    item.retry = Retrying(Retry(2), scope, int, ())
    future = Racing(item)
    assert item.claim()

    assert future.cancel()
    assert future.cancelled()
    assert host.cancelled == ["cancelled"]


def test_of_all_who_claim_a_job_at_once_one_gets_it() -> None:
    for _ in range(100):
        item, future, _ = make_job()
        answers = at_once(
            item.claim, item.claim, future.cancel, partial(item.claim, "cancelled"), item.claim
        )
        is_cancelled = future.state == "cancelled"
        claims = [answers[0], answers[1], answers[4]]

        assert claims.count(True) == (0 if is_cancelled else 1)
        # A future that is cancelled already says so to all who cancel it.
        assert answers[2] is is_cancelled
        assert item.state == ("new" if is_cancelled else "running")


def test_a_released_job_grants_no_claim() -> None:
    item, _, _ = make_job()
    item.release()

    assert not any(item.claim(each) for each in get_args(ItemState))


def test_the_queue_is_the_first_to_see_that_a_waiting_job_is_cancelled() -> None:
    item, future, host = make_job()
    seen: list[object] = []
    # The plain method: the scope here can run nothing.
    super(JobFuture, future).add_done_callback(lambda _: seen.append(list(host.cancelled)))

    assert future.cancel()
    assert future.cancel()
    assert host.cancelled == ["cancelled"]
    assert seen == [["cancelled"]]
    with pytest.raises(CancelledError):
        future.result(0)
    assert item.future is None
