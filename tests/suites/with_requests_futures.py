"""Replaces the pools of requests-futures and its tests, and serves what its tests request."""

import threading

import pytest
from flask import Flask, jsonify, redirect, request
from stand_ins import replace_pools
from werkzeug.serving import make_server

replace_pools()


@pytest.fixture(scope="session")
def httpbin():
    """The few pages of httpbin that the tests request; httpbin itself needs an old greenlet."""
    server = make_server("127.0.0.1", 0, _pages(), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield _Pages(f"http://127.0.0.1:{server.port}/")
    server.shutdown()
    thread.join()
    server.server_close()


class _Pages:
    def __init__(self, url):
        self._url = url

    def join(self, path):
        return self._url + path


def _pages():
    app = Flask(__name__)

    @app.get("/get")
    @app.get("/headers")
    @app.post("/post")
    @app.put("/put")
    @app.patch("/patch")
    @app.delete("/delete")
    def echo():
        return jsonify(
            args=request.args,
            headers=dict(request.headers),
            form=request.form,
            json=request.get_json(silent=True),
        )

    @app.get("/status/<int:code>")
    def status(code):
        return "", code

    @app.get("/redirect-to")
    def redirect_to():
        return redirect(request.args["url"])

    return app
