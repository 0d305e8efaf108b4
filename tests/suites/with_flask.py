"""Gives each app that Flask's tests make an executor, on whose loop its async views run."""

import _pytest.monkeypatch
from flask import Flask

from flask_executor import Executor

_make = Flask.__init__


def _make_with_executor(self, *args, **kwargs):
    _make(self, *args, **kwargs)
    self.config["EXECUTOR_ASYNC_VIEWS"] = True
    Executor().init_app(self)


Flask.__init__ = _make_with_executor
# Flask's tests import a private name that pytest 9.1 spells in another way.
if not hasattr(_pytest.monkeypatch, "notset"):
    _pytest.monkeypatch.notset = _pytest.monkeypatch.NOTSET
