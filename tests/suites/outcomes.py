"""A pytest plugin that leaves tests out, and writes which tests passed, failed or were skipped."""

import json
import os
from pathlib import Path

from suite import Suite

_RANKS = ("skipped", "passed", "failed")  # the outcome of a test is the last of its phases' here
_outcomes = {}


def pytest_collection_modifyitems(config, items):
    suite = Suite.read(Path(os.environ["SUITE"]))
    left_out = [item for item in items if suite.is_left_out(_name(item.nodeid))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collectreport(report):
    if report.failed:
        _note(report)


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        _note(report)


def pytest_unconfigure():
    Path(os.environ["SUITE_OUTCOMES"]).write_text(json.dumps(_outcomes), encoding="utf-8")


def _note(report):
    test = _name(report.nodeid)
    _outcomes[test] = max(_outcomes.get(test, "skipped"), report.outcome, key=_RANKS.index)


def _name(nodeid):
    """The test without its folder, which depends on where the tests are."""
    path, *names = nodeid.split("::")
    return "::".join([Path(path).name, *names])
