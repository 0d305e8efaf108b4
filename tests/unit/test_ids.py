"""Ids of jobs: what is random in them, and how they sort."""

from __future__ import annotations

import time
import uuid

from flask_executor.jobs import ids


def test_an_id_is_a_uuid_of_version_7_with_the_time_of_the_submit():
    now = time.time_ns()

    parsed = uuid.UUID(ids.id_of(now, 1))

    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == now // 1_000_000


def test_ids_sort_by_time_to_the_fraction_of_a_millisecond():
    times = [1_700_000_000_000_000_000 + step * 250 for step in range(1_000)]

    made = [ids.id_of(each, 1) for each in times]

    assert made == sorted(set(made))


def test_jobs_of_the_same_moment_have_ids_of_their_own():
    addresses = range(0x7F00_0000_0000, 0x7F00_0000_0000 + 16 * 1_000, 16)

    assert len({ids.id_of(1, address) for address in addresses}) == 1_000


def test_another_process_gives_the_same_moment_and_address_another_id(monkeypatch):
    mine = ids.id_of(1, 1)
    monkeypatch.setattr(ids, "_process", ids._process)  # set back after the test

    ids._choose()  # as in a forked process

    assert ids.id_of(1, 1) != mine


def test_an_id_stays_the_same():
    assert ids.id_of(5, 7) == ids.id_of(5, 7)
