"""Replaces `asgiref.sync.async_to_sync` with the way in which async views run."""

import asgiref.sync
from flask import Flask

from flask_executor import Executor

app = Flask(__name__)
app.config["EXECUTOR_ASYNC_VIEWS"] = True
Executor(app)


def async_to_sync(awaitable=None, *, force_new_loop=False):
    if awaitable is None:
        return app.async_to_sync
    return app.async_to_sync(awaitable)


asgiref.sync.async_to_sync = async_to_sync
