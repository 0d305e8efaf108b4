"""The parts of the queue, each on its own: no app, no pool."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from flask_executor.aio.loop import LoopThread
from flask_executor.queue.admission import Admission, Held
from flask_executor.queue.clock import Clock
from flask_executor.queue.ready import ReadyQueue
from tests.support import WAIT


class Item:
    """A job that nobody has claimed, until somebody does."""

    def __init__(self) -> None:
        self.is_free = True

    def is_pending(self) -> bool:
        return self.is_free


def test_the_ready_queue_gives_its_items_in_order_and_counts_those_that_wait():
    ready: Any = ReadyQueue()
    items = [Item() for _ in range(3)]
    for item in items:
        ready.entries.append(item)
    ready.mark_stale()

    assert (len(ready), bool(ready)) == (2, True)
    assert [ready.entries.popleft() for _ in range(3)] == items
    ready.drop_stale()
    assert (len(ready), bool(ready)) == (0, False)


def test_stale_entries_go_when_they_are_more_than_half():
    ready: Any = ReadyQueue()
    items = [Item() for _ in range(5)]
    for item in items:
        ready.entries.append(item)
    kept = []
    for item in (items[0], items[2], items[4]):
        item.is_free = False
        ready.mark_stale()
        ready.compact()
        kept.append(len(ready.items()))

    assert kept == [5, 5, 2]
    assert ready.items() == [items[1], items[3]]
    assert len(ready) == 2


class Bounded:
    """An admission, and how full its queue is."""

    def __init__(self, bound: int) -> None:
        self.load = (0, 0)
        self.admission: Any = Admission(bound, threading.RLock(), lambda: self.load)

    def may_enter(self, waiting: int, free_workers: int) -> bool:
        self.load = (waiting, free_workers)
        return self.admission.may_enter()


def test_an_admission_counts_waiting_and_reserved_jobs_but_not_those_that_start_at_once():
    bounded = Bounded(2)

    assert not bounded.may_enter(2, 0)
    assert bounded.may_enter(1, 0)
    assert bounded.admission.reserve("starts at once", is_delayed=False)
    assert bounded.may_enter(1, 1)
    bounded.admission.reserved["delayed"] = True
    assert not bounded.may_enter(1, 1)
    assert not bounded.admission.reserve("one more", is_delayed=True)
    assert bounded.may_enter(0, 1)
    bounded.admission.give_back("delayed")
    assert bounded.may_enter(1, 1)


def test_an_admission_admits_in_order_and_only_into_room():
    bounded = Bounded(1)
    admission = bounded.admission
    for name in ("first", "second"):
        admission.hold(name, Held(name.upper, is_delayed=True))

    assert not bounded.may_enter(0, 0), "others wait already"
    bounded.load = (1, 4)
    assert admission.admit_next() is None
    bounded.load = (0, 4)
    admit = admission.admit_next()
    assert admit is not None
    assert admit() == "FIRST"
    assert admission.admit_next() is None, "a delayed job takes a place, whoever is free"
    assert admission.admit_now("second")() == "SECOND"
    assert admission.admit_now("second") is None
    assert admission.reserved == {"first": True, "second": True}


def test_outsiders_are_taken_off_the_waiting_list():
    admission = Bounded(1).admission
    admission.hold("job", Held("job".upper, is_delayed=False))
    admission.hold("outsider", Held("outsider".upper, is_delayed=False, is_outsider=True))

    assert [admit() for admit in admission.take_outsiders()] == ["OUTSIDER"]
    assert admission.stop_holding("job")
    assert not admission.stop_holding("job")


@pytest.fixture
def clock():
    loop = LoopThread("clock", None, is_debug=bool, on_start=bool)
    yield Clock(loop)
    loop.stop()


def test_a_clock_calls_once_for_a_key(clock: Clock):
    called: Future[str] = Future()
    clock.set("key", 0.001, lambda: called.set_result("first"), lambda: True)
    clock.set("key", 0, lambda: called.set_result("second"), lambda: True)

    assert called.result(WAIT) == "first"


def test_a_clock_does_not_call_what_is_dropped_or_not_wanted(clock: Clock):
    called: list[str] = []
    over = threading.Event()
    clock.set("dropped", 0.01, lambda: called.append("dropped"), lambda: True)
    clock.drop("dropped")
    clock.set("unwanted", 0, lambda: called.append("unwanted"), lambda: False)
    clock.set("last", 0.05, over.set, lambda: True)

    assert over.wait(WAIT)
    assert called == []
