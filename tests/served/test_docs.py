"""The examples of README.md and docs/ work, their links lead somewhere, their tables are true."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from flask import Flask, request, request_started
from werkzeug.serving import make_server

import flask_executor
from flask_executor import (
    Executor,
    Progress,
    Retry,
    Stats,
    exceptions,
    metrics,
    records,
    signals,
    testing,
)
from flask_executor import board as board_module
from flask_executor.records import JobRecord, Minute, ProcessRecord, RecordedError, Spread
from flask_executor.settings import Settings
from tests.served.terminals import run_in_terminal
from tests.support import ROOT, WAIT

DOCS = ROOT / "docs"
HOWTO, REFERENCE = DOCS / "howto", DOCS / "reference"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
# Pages without code that runs.
TEXTS = [ROOT / name for name in ("CHANGES.md", "CONTRIBUTING.md", "SECURITY.md")]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
# These packages change their process for good.
PAGES_APART = [HOWTO / name for name in ["opentelemetry.md", "prometheus.md", "sentry.md"]]
# It needs an async driver: tests/integrations runs its examples.
ASYNC_DATABASES = HOWTO / "async-databases.md"
# There jobs, callbacks or teardown functions fail on purpose, and the log is to say so.
PAGES_THAT_LOG_ERRORS = {"context.md", "errors.md", "logging.md", "long-jobs.md", "retries.md"}
# Packages that only `make integrations` installs.
PAGES_WITH_OTHER_PACKAGES = {
    "mail.md": "flask_mailman",
    "schedules.md": "apscheduler",
    "websockets.md": "flask_socketio",
}

LANGUAGES = {"python", "pycon", "sh", "js", "html", "ini", "yaml", "docker", "text"}
DIRECTIVES = {"{eval-rst}", "{include}", "{toctree}"}

RunPage = Callable[[Path], dict[str, Any]]

# Readers do not see the code in comments, which prepares a page's examples or checks what they did.
CODE = re.compile(
    r"^(?:```([\w{}-]*)[^\n]*|<!-- (python))\n(.*?)^(?:```|-->)$", re.MULTILINE | re.DOTALL
)
# A line such as "`shop/jobs.py`:" above a block: the block is that file of an app.
FILE = re.compile(r"^`(\w[\w./-]*\.\w+|Dockerfile)`:\n\n\Z", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ENTRY = re.compile(r"^:::\{py:data\} (\S+)$", re.MULTILINE)
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)$", re.MULTILINE)
REFERRED = re.compile(r"\[([^]]+)\](?:\[([^]]+)\]|(?![(:\[]))")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass
class Block:
    """A fenced block of code, and the line of its page that it begins after."""

    page: Path
    line: int
    language: str
    source: str
    file: str | None = None

    def run(self, namespace: dict[str, Any]) -> None:
        if self.language == "pycon":
            self._run_session(namespace)
        else:
            # With the lines before it, a traceback shows the line of the page.
            code = compile("\n" * self.line + self.source, self.page, "exec", dont_inherit=True)
            exec(code, namespace)

    def write(self, folder: Path) -> None:
        """Make the file that the block is; a later block of the page may replace it."""
        path = folder / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.source, "utf-8")

    def _run_session(self, namespace: dict[str, Any]) -> None:
        session = doctest.DocTestParser().get_doctest(
            self.source, {}, self.page.name, str(self.page), self.line
        )
        session.globs = namespace
        report: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
        results = runner.run(session, out=report.append, clear_globs=False)
        assert results.attempted, "a pycon block without >>>"
        assert not results.failed, "".join(report)


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Flask]]:
    """Collect the apps that get an executor, and in the end close what they have opened."""
    apps, executors = [], []
    init_app = Executor.init_app

    def recording_init_app(executor: Executor, app: Flask) -> None:
        apps.append(app)
        executors.append(executor)
        init_app(executor, app)

    monkeypatch.setattr(Executor, "init_app", recording_init_app)
    yield apps
    for executor in executors:
        executor.shutdown(cancel_futures=True)  # A test that has failed may have left some.
    for app in apps:
        if "sqlalchemy" in app.extensions:
            with app.app_context():
                app.extensions["sqlalchemy"].engine.dispose()


@pytest.fixture
def run_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, apps: list[Flask]
) -> Iterator[RunPage]:
    """Run the blocks of a page one after the other, as a module, and return its namespace.

    A block that is a file is written, and runs when a later block imports it.
    """

    def run(page: Path) -> dict[str, Any]:
        context = copy_context()
        module = ModuleType("page_" + re.sub(r"\W", "_", page.stem))
        module.__file__ = str(page)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        # Worker processes import it.
        code = [b.source for b in blocks(page) if b.language == "python" and not b.file]
        (tmp_path / f"{module.__name__}.py").write_text("\n".join(code), "utf-8")
        for block in blocks(page):
            if block.file:
                block.write(tmp_path)
            elif block.language in {"python", "pycon"}:
                context.run(block.run, vars(module))
            for app in apps:
                # A page calls its app as it goes; in a module of its own, all views come first.
                app._got_first_request = False
        return vars(module)

    monkeypatch.chdir(tmp_path)  # where the instance folder of an app is
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with mock.patch.dict(os.environ):
        yield run
    forget_modules(tmp_path)


@pytest.fixture
def called_views() -> Iterator[set[tuple[Flask, str]]]:
    """Collect the views that requests are dispatched to."""
    called = set()

    def record(app: Flask) -> None:
        called.add((app, request.endpoint))

    with request_started.connected_to(record):
        yield called


@pytest.mark.parametrize("page", sorted({*PAGES} - {*PAGES_APART, ASYNC_DATABASES}), ids=name_of)
def test_the_examples_of_a_page_work(
    page: Path,
    run_page: RunPage,
    apps: list[Flask],
    called_views: set[tuple[Flask, str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if page.name in PAGES_WITH_OTHER_PACKAGES:
        pytest.importorskip(PAGES_WITH_OTHER_PACKAGES[page.name])

    namespace = run_page(page)
    for name in [name for name in namespace if name.startswith("test_")]:
        namespace[name]()

    # Those of a board are tested elsewhere.
    views = {
        (app, view)
        for app in apps
        for view in app.view_functions
        if view.rpartition(".")[0] not in {"executor_board", "ops"} and view != "static"
    }
    assert views <= called_views, "there are views that no example calls"
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(errors) == (page.name in PAGES_THAT_LOG_ERRORS), errors


@pytest.mark.slow
def test_the_tests_of_the_testing_page_pass_and_its_fixture_sees_a_job_that_fails(
    tmp_path: Path,
) -> None:
    for block in blocks(HOWTO / "testing.md"):
        if block.file:
            block.write(tmp_path)
    with_asyncio = importlib.util.find_spec("pytest_asyncio") is not None
    if not with_asyncio:  # `make integrations` has it
        (tmp_path / "test_async.py").unlink()
        (tmp_path / "pytest.ini").unlink()
    (tmp_path / "test_fails.py").write_text("def test_fails(client): client.post('/signup/ada')")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:randomly"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    [error] = re.findall("^ERROR .*", done.stdout, re.MULTILINE)
    assert error.startswith("ERROR test_fails.py::test_fails - ValueError")
    assert "FAILED" not in done.stdout
    assert "1 job failed and nobody asked for its outcome: send_welcome" in done.stdout
    assert f"{10 if with_asyncio else 7} passed, 1 error" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_APART, ids=name_of)
@pytest.mark.parametrize("is_multiprocess", [False, True])
def test_the_examples_of_monitoring_work_in_a_process_of_their_own(
    tmp_path: Path, page: Path, is_multiprocess: bool
) -> None:
    variables = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if is_multiprocess else {}
    done = run_apart(page, tmp_path, **variables)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_asgi_app_of_the_deployment_page_ends_after_its_jobs(run_page: RunPage) -> None:
    namespace = run_page(HOWTO / "deployment.md")
    gate = threading.Event()
    future = namespace["executor"].submit(gate.wait)

    async def serve() -> list[str]:
        received, sent = asyncio.Queue(), asyncio.Queue()
        app = asyncio.create_task(namespace["asgi"]({"type": "lifespan"}, received.get, sent.put))
        received.put_nowait({"type": "lifespan.startup"})
        first = await sent.get()
        received.put_nowait({"type": "lifespan.shutdown"})
        for _ in range(10):
            await asyncio.sleep(0)
        assert sent.empty()
        gate.set()
        await app
        return [first["type"], sent.get_nowait()["type"]]

    try:
        assert asyncio.run(serve()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert future.done()
    finally:
        gate.set()


def test_the_views_of_the_page_on_long_jobs_follow_a_running_job(run_page: RunPage) -> None:
    namespace = run_page(HOWTO / "long-jobs.md")
    gate = threading.Event()

    def job() -> None:
        flask_executor.current_job.progress(1, 4, "waiting")
        gate.wait()
        flask_executor.current_job.progress(4, 4)

    future = namespace["executor"].submit_stored("june", job)
    try:
        while future.progress is None:
            assert not future.done()
        polled = namespace["client"].get("/reports/june").json
        pushed = namespace["client"].get("/reports/june/events").iter_encoded()
        first = json.loads(next(pushed).removeprefix(b"data: "))
    finally:
        gate.set()
    [*_, last] = [json.loads(event.removeprefix(b"data: ")) for event in pushed]

    assert polled == first
    assert (first["state"], first["progress"]["fraction"]) == ("running", 0.25)
    assert first["progress"]["message"] == "waiting"
    assert (last["state"], last["progress"]["fraction"]) == ("succeeded", 1)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl: apt-get install curl")
def test_the_shell_commands_of_the_board_page_cancel_a_job(
    run_page: RunPage, tmp_path: Path
) -> None:
    namespace = run_page(HOWTO / "board.md")
    options = namespace["executor"].options(key="reports/may", on_duplicate="replace", delay=3600)
    future = options.submit(pow, 2, 5)
    [commands] = [b.source for b in blocks(HOWTO / "board.md") if "curl" in b.source]
    server = make_server("127.0.0.1", 0, namespace["app"], threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        done = subprocess.run(
            [
                "sh",
                "-c",
                commands.replace("https://example.org", f"http://127.0.0.1:{server.port}"),
            ],
            cwd=tmp_path,
            env=os.environ | {"PASSWORD": namespace["PASSWORD"]},
            capture_output=True,
            check=False,
            timeout=WAIT,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert json.loads(done.stdout)["state"] == "cancelled", done.stderr
    assert future.cancelled()


@pytest.mark.parametrize(
    ("command", "bar"),
    [
        ("measure", "100%|██"),
        ("measure-async", "100%|██"),
        ("measure-rich", "━━"),
        ("measure-async-rich", "━━"),
        ("import", "━━"),
    ],
)
def test_the_commands_of_the_progress_page_show_bars_in_a_terminal(
    tmp_path: Path, command: str, bar: str
) -> None:
    code = [block.source for block in blocks(HOWTO / "progress.md") if block.language == "python"]
    (tmp_path / "page.py").write_text("\n".join(code), "utf-8")

    status, shown = run_in_terminal(["-m", "flask", "--app", "page", command], tmp_path)

    assert status == 0, shown
    assert bar in shown
    assert "100%" in shown
    assert command == "import" or "80\r\n" in shown
    assert "Error" not in shown


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_its_language(page: Path) -> None:
    languages = {block.language for block in blocks(page)}

    assert languages <= LANGUAGES | DIRECTIVES


@pytest.mark.parametrize(
    "word",
    ["background task", "Celery", "cron", "email", "mail", "progress bar", "timeout", "WebSocket"],
)
def test_a_word_that_people_search_leads_to_one_page_first(word: str) -> None:
    assert len([page for page in PAGES if f"!{word}" in words(page)]) == 1


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != REFERENCE], ids=name_of)
def test_a_page_has_words_in_the_index(page: Path) -> None:
    assert words(page) or page in {ROOT / "README.md", DOCS / "changes.md"}


@pytest.mark.parametrize("page", [*PAGES, *TEXTS], ids=name_of)
def test_every_link_of_a_page_to_our_files_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target = file_of(link, page)
        anchor = link.partition("#")[2]
        assert target is None or target.exists(), link
        assert target is None or not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(
    ("link", "file"),
    [
        ("#try-it", "docs/index.md"),
        ("howto/progress.md#bars", "docs/howto/progress.md"),
        (f"{URLS['Documentation']}en/latest/howto/progress.html#bars", "docs/howto/progress.md"),
        (URLS["Documentation"], "docs/index.md"),
        (f"{URLS['Source']}/blob/main/examples/shop.py", "examples/shop.py"),
        (f"{URLS['Source']}/blob/main/CHANGES.md#version-200", "CHANGES.md"),
        (f"{URLS['Source']}/issues", None),
        ("https://docs.python.org/3/library/asyncio.html", None),
    ],
)
def test_links_to_our_site_and_repository_are_read_as_links_to_files(
    link: str, file: str | None
) -> None:
    assert file_of(link, DOCS / "index.md") == (None if file is None else ROOT / file)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CHANGES.md"], ids=name_of)
def test_a_page_that_is_shown_elsewhere_has_no_relative_links(page: Path) -> None:
    assert [link for link in links(page) if "://" not in link] == []


def test_each_reference_of_the_readme_is_defined_and_each_definition_used() -> None:
    text = re.sub(r"`[^`]*`", "", prose(ROOT / "README.md"))
    defined = re.findall(r"^\[([^]]+)\]: ", text, re.MULTILINE)
    used = {(label or words).lower() for words, label in REFERRED.findall(text)}

    assert used == {each.lower() for each in defined}


def test_every_config_key_has_an_entry() -> None:
    assert ENTRY.findall(prose(REFERENCE / "configuration.md")) == config_keys()


def test_the_config_table_has_every_key_with_its_default() -> None:
    text = prose(REFERENCE / "configuration.md")
    rows = re.findall(r"^\| `(EXECUTOR_\w+)` \| `([^`]+)` \|", text, re.MULTILINE)

    assert [(key, ast.literal_eval(default)) for key, default in rows] == [
        (key, getattr(Settings, key.removeprefix("EXECUTOR_").lower())) for key in config_keys()
    ]


def test_the_table_of_errors_has_every_class_with_its_builtin_base() -> None:
    row = re.compile(r"^\| `([A-Z]\w+)` \| `(?:queue\.)?(\w+)`[,\w` ]* \|", re.MULTILINE)
    classes = [getattr(exceptions, name) for name in exceptions.__all__]

    assert dict(row.findall(prose(REFERENCE / "errors.md"))) == {
        each.__name__: each.__bases__[1].__name__
        for each in classes
        if each is not exceptions.FlaskExecutorError
    }


def test_the_page_of_signals_has_every_signal() -> None:
    entries = ENTRY.findall(prose(REFERENCE / "signals.md"))

    assert sorted(entries) == [f"flask_executor.{name}" for name in signals.__all__]


def test_the_entry_of_a_config_key_has_its_default() -> None:
    values = re.findall(r"^:value: (.+)$", prose(REFERENCE / "configuration.md"), re.MULTILINE)

    assert [ast.literal_eval(value.strip("'")) for value in values] == [
        getattr(Settings, key.removeprefix("EXECUTOR_").lower()) for key in config_keys()
    ]


@pytest.mark.parametrize(
    "value",
    [
        Stats,
        Retry,
        Progress,
        RecordedError,
        JobRecord,
        Minute,
        Spread,
        ProcessRecord,
        testing.RecordedJob,
    ],
)
def test_the_reference_tells_the_meaning_of_each_field(value: type) -> None:
    described = re.findall(r"^ *:param (\w+): \w", value.__doc__ or "", re.MULTILINE)

    assert described == [*value.__annotations__]


def test_the_reference_has_every_public_name() -> None:
    modules = [flask_executor, testing, board_module, metrics, records]
    names = {f"{module.__name__}.{name}" for module in modules for name in module.__all__}

    texts = [page.read_text("utf-8") for page in REFERENCE.glob("*.md")]
    entries = [re.findall(r"^\.\. (?:auto|py:)\w+:: (\S+)$", text, re.MULTILINE) for text in texts]
    found = {entry for each in entries for entry in each}
    found |= {entry for text in texts for entry in ENTRY.findall(text)}
    assert names - found == set()


def test_the_page_of_the_benchmarks_says_what_the_results_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    page = importlib.import_module("page")

    text = page.render()

    assert (REFERENCE / "benchmarks.md").read_text("utf-8") == text, "run benchmarks/page.py"
    shown = set(re.findall(r"images/(benchmarks-.+)\)", text))
    assert shown == {path.name for path in (DOCS / "images").glob("benchmarks-*")}


def test_the_page_about_choosing_has_the_figures_of_the_benchmarks() -> None:
    measured = (REFERENCE / "benchmarks.md").read_text("utf-8").split("\n## CPython 3.14\n")[0]
    rows = re.findall(
        r"^\| ([\w -]+)(?:, threads)? \| ([\d,]+) \|$", prose(HOWTO / "choosing.md"), re.MULTILINE
    )
    [ours, *theirs] = rows

    assert len(theirs) == 4
    for name, figure in theirs:
        assert re.search(
            rf"^\| {name} \|.* \| {ours[1]}/s \| {figure}/s \|$", measured, re.MULTILINE
        ), name


def run_apart(page: Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the blocks of a page in a process of their own, which may not warn."""
    # Eventlet warns when Sentry's SDK imports it.
    code = ["import sys; sys.modules['eventlet'] = None"]
    code += [block.source for block in blocks(page) if block.language == "python"]
    module = folder / "page.py"
    module.write_text("\n".join(code), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    environment.pop("SENTRY_DSN", None)
    command = [sys.executable, "-W", "error", module]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def forget_modules(folder: Path) -> None:
    """Have the next import of a module in *folder* load it again."""
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def config_keys() -> list[str]:
    names = [name for name in Settings.__annotations__ if name not in {"prefix", "name"}]
    return [f"EXECUTOR_{name.upper()}" for name in names]


def links(page: Path) -> list[str]:
    return [inline or defined for inline, defined in LINK.findall(prose(page))]


def file_of(link: str, page: Path) -> Path | None:
    """Return the file that a link of *page* leads to, on our site, too; None for other places."""
    path = link.partition("#")[0]
    if path.startswith(site := URLS["Documentation"]):
        name = path.removeprefix(site).removeprefix("en/latest/") or "index.html"
        return (DOCS / name).with_suffix(".md")
    if path.startswith(files := f"{URLS['Source']}/blob/main/"):
        return ROOT / path.removeprefix(files)
    if "://" in path:
        return None
    return (page.parent / path).resolve() if path else page


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start(3)),
            match[1] or match[2] or "",
            match[3],
            file[1] if (file := FILE.search(text, 0, match.start())) else None,
        )
        for match in CODE.finditer(text)
    ]


def words(page: Path) -> list[str]:
    """Return the entries of a page in the index; `!` marks the best page for a word."""
    found = re.match(r"<!-- index: (.+) -->\n", page.read_text("utf-8"))
    return found[1].split(", ") if found else []


def prose(page: Path) -> str:
    """Return the text of a page but for its blocks of code."""
    return CODE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Return what GitHub makes of the headings, for links to lead to."""
    headings = (heading.lower() for heading in HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
