"""What extensions keep in `g` under private names is the view's; a job has its own."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, g

from flask_executor import Executor
from tests.integrations.support import in_view
from tests.support import WAIT, MakeExecutor


@pytest.mark.parametrize(
    ("copy_g", "seen"),
    [
        (True, {"user": 1}),
        (False, {}),
        (("_private", "absent"), {"_private": 2}),
        ("user,_private", {"user": 1, "_private": 2}),
    ],
)
def test_a_private_name_of_g_is_carried_only_if_it_is_named(
    app: Flask, executors: MakeExecutor, copy_g: Any, seen: dict[str, int]
) -> None:
    executor: Executor = executors(app, copy_g=copy_g)

    def view() -> dict[str, int]:
        g.user, g._private = 1, 2
        return executor.submit(lambda: vars(g).copy()).result(WAIT)

    assert in_view(app, view) == seen


def test_each_item_of_a_map_has_a_private_state_of_its_own(
    app: Flask, executors: MakeExecutor
) -> None:
    executor = executors(app, max_workers=2)

    def item(n: int) -> list[int]:
        items = g.setdefault("_items", [])
        items.append(n)
        return items

    def view() -> list[list[int]]:
        g._items = [-1]
        return [*executor.map(item, range(4), chunksize=2), g._items]

    assert in_view(app, view) == [[0], [1], [2], [3], [-1]]
