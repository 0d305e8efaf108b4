"""The app that test_served_async_views.py has served: its async views run on our loop."""

from __future__ import annotations

import asyncio
import sys

from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from flask import Flask, request

from flask_executor import Executor

app = Flask(__name__)
app.config["EXECUTOR_ASYNC_VIEWS"] = True
executor = Executor(app)
asgi_app = WsgiToAsgi(app)
a2wsgi_app = WSGIMiddleware(app)
gate = asyncio.Event()
sent: list[str] = []


async def send() -> None:
    await gate.wait()
    sent.append(f"sent for {request.args['user']}")


@app.post("/forget")
async def forget() -> tuple[str, int]:
    executor.submit(send)
    return "OK", 202


@app.post("/open")
async def open_gate() -> list[str]:
    before = sent.copy()
    gate.set()
    return before


@app.get("/sent")
async def show_sent() -> list[str]:
    await executor.drain_async(timeout=10)
    return sent


@app.get("/hang")
async def hang() -> None:
    sys.stderr.write("The view hangs.\n")  # a2wsgi has the app's log on standard output
    await asyncio.Event().wait()
