"""What an extra is for works where nothing but that extra is installed: `make extras`.

python tests/extras.py store
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec

from flask import Flask
from flask.cli import FlaskGroup

from flask_executor import Executor


def main(extra: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        app = Flask(__name__, instance_path=folder)
        CHECKS[extra](app)
    print(f"ok: {extra or 'no extra'}, Python {sys.version.split()[0]}")


def check_none(app: Flask) -> None:
    executor = Executor(app)

    @app.get("/")
    async def view() -> str:
        return str(await executor.submit_async(sum, [1, 2]))

    assert app.test_client().get("/").text == "3"
    run_command(app, "--help")
    executor.shutdown()


def check_dask(app: Flask) -> None:
    app.config.update(EXECUTOR_TYPE="dask", EXECUTOR_MAX_WORKERS=1, EXECUTOR_PUSH_APP_CONTEXT=False)
    executor = Executor(app)

    assert executor.submit(sum, [1, 2]).result() == 3
    executor.shutdown()


def check_metrics(app: Flask) -> None:
    from prometheus_client import REGISTRY, generate_latest

    from flask_executor.metrics import instrument

    executor = Executor(app)
    instrument(executor)
    executor.submit(sum, [1, 2]).result()
    executor.shutdown()

    assert "succeeded" in generate_latest(REGISTRY).decode()


def check_store(app: Flask) -> None:
    app.config["EXECUTOR_STORE"] = "sqlite:///jobs.db"
    executor = Executor(app)
    run_command(app, "create-store")
    executor.submit_stored("key", sum, [1, 2]).result()
    executor.shutdown()

    assert "succeeded" in run_command(app, "list")
    with app.app_context():
        record = executor.records.get("key")
    assert record is not None
    assert (record.state, record.result) == ("succeeded", 3)


def check_cli(app: Flask) -> None:
    assert find_spec("rich") is not None
    check_store(app)


def run_command(app: Flask, name: str) -> str:
    """Run `flask executor NAME`, which Flask finds by the entry point of the installed package."""
    flask = FlaskGroup(create_app=lambda: app)
    result = app.test_cli_runner().invoke(flask, ["executor", name])
    assert result.exit_code == 0, result.output
    return result.output


CHECKS = {
    "": check_none,
    "cli,store": check_cli,
    "dask": check_dask,
    "metrics": check_metrics,
    "store": check_store,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
