"""The config keys: their defaults, what strings are read as, and what is refused at `init_app`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
from flask import Flask

from flask_executor import Executor, InvalidSetting
from flask_executor.settings import Settings
from tests.support import MakeExecutor

DEFAULTS = {
    "EXECUTOR_TYPE": "thread",
    "EXECUTOR_MAX_WORKERS": None,
    "EXECUTOR_PUSH_APP_CONTEXT": True,
    "EXECUTOR_PUSH_REQUEST_CONTEXT": True,
    "EXECUTOR_COPY_G": True,
    "EXECUTOR_FUTURES_MAX_LENGTH": 50,
    "EXECUTOR_PROPAGATE_EXCEPTIONS": False,
    "EXECUTOR_ASYNC_VIEWS": False,
    "EXECUTOR_LOOP_FACTORY": None,
    "EXECUTOR_MAX_PENDING": None,
    "EXECUTOR_SHUTDOWN_TIMEOUT": None,
    "EXECUTOR_EXIT_ON_SIGTERM": False,
    "EXECUTOR_APP": None,
    "EXECUTOR_DASK_ADDRESS": None,
    "EXECUTOR_MP_CONTEXT": None,
    "EXECUTOR_MAX_TASKS_PER_CHILD": None,
    "EXECUTOR_STORE": None,
    "EXECUTOR_STORE_TTL": 86400,
    "EXECUTOR_STORE_ERRORS": "text",
    "EXECUTOR_STORE_RECORDS": "stored",
}

COUNTS = [
    "EXECUTOR_MAX_WORKERS",
    "EXECUTOR_FUTURES_MAX_LENGTH",
    "EXECUTOR_MAX_PENDING",
    "EXECUTOR_MAX_TASKS_PER_CHILD",
]
COUNT = "an int above 0, or None"
SWITCHES = [
    "EXECUTOR_PUSH_APP_CONTEXT",
    "EXECUTOR_PUSH_REQUEST_CONTEXT",
    "EXECUTOR_PROPAGATE_EXCEPTIONS",
    "EXECUTOR_ASYNC_VIEWS",
    "EXECUTOR_EXIT_ON_SIGTERM",
]
SWITCH = "True or False"
NAMES = "True, False, or the names to carry"


@pytest.fixture
def app() -> Flask:
    """An app with nothing in its config."""
    return Flask("app")


def field_of(key: str) -> str:
    return key.removeprefix("EXECUTOR_").lower()


def kind(value: object) -> str:
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def shown(value: object) -> str:
    """An id that is the same in every run, and another for another value."""
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(value)})"
    return getattr(value, "__name__", None) or repr(value)


def test_absent_keys_get_their_defaults_in_the_config(app: Flask) -> None:
    Executor(app)

    assert {k: v for k, v in app.config.items() if k.startswith("EXECUTOR_")} == DEFAULTS


def values_of(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in Settings.__annotations__}


def test_every_field_is_a_key_with_that_default() -> None:
    fields = values_of(Settings())

    assert (fields.pop("prefix"), fields.pop("name")) == ("EXECUTOR_", "")
    assert fields == {field_of(key): default for key, default in DEFAULTS.items()}


def test_a_named_executor_reads_keys_with_its_name_and_no_others(app: Flask) -> None:
    app.config.update(EXECUTOR_MAX_WORKERS=2, MAIL_EXECUTOR_MAX_WORKERS=3)

    unnamed, named, other = Executor(app), Executor(app, name="mail"), Executor(app, name="Two_2")

    assert unnamed.stats().workers == 2
    assert named.stats().workers == 3
    assert other.stats().workers not in {2, 3}
    for prefix in ("MAIL_", "TWO_2_"):
        written = {prefix + key for key in DEFAULTS}
        assert {key for key in app.config if key.startswith(prefix)} == written


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("EXECUTOR_TYPE", "process", "process"),
        *((key, "7", 7) for key in COUNTS),
        *((key, 7, 7) for key in COUNTS),
        *((key, None, None) for key in COUNTS),
        *((key, text, True) for key in SWITCHES for text in ("true", "Yes", "ON", "1")),
        *((key, text, False) for key in SWITCHES for text in ("false", "No", "OFF", "0")),
        *((key, value, value) for key in SWITCHES for value in (True, False)),
        *((key, value, bool(value)) for key in SWITCHES for value in (1, 0)),
        ("EXECUTOR_COPY_G", 0, False),
        ("EXECUTOR_COPY_G", "false", False),
        ("EXECUTOR_COPY_G", "1", True),
        ("EXECUTOR_COPY_G", False, False),
        ("EXECUTOR_COPY_G", "user", frozenset({"user"})),
        ("EXECUTOR_COPY_G", "user, tenant", frozenset({"user", "tenant"})),
        ("EXECUTOR_COPY_G", ["user", "tenant"], frozenset({"user", "tenant"})),
        ("EXECUTOR_COPY_G", (), frozenset()),
        ("EXECUTOR_COPY_G", {"user"}, frozenset({"user"})),
        ("EXECUTOR_COPY_G", frozenset({"user"}), frozenset({"user"})),
        ("EXECUTOR_APP", "package.module:app", "package.module:app"),
        ("EXECUTOR_APP", None, None),
        ("EXECUTOR_DASK_ADDRESS", "tcp://127.0.0.1:8786", "tcp://127.0.0.1:8786"),
        ("EXECUTOR_DASK_ADDRESS", None, None),
        ("EXECUTOR_MP_CONTEXT", "spawn", "spawn"),
        ("EXECUTOR_MP_CONTEXT", None, None),
        ("EXECUTOR_LOOP_FACTORY", "asyncio:new_event_loop", asyncio.new_event_loop),
        ("EXECUTOR_LOOP_FACTORY", None, None),
        ("EXECUTOR_SHUTDOWN_TIMEOUT", "2.5", 2.5),
        ("EXECUTOR_SHUTDOWN_TIMEOUT", 0, 0),
        ("EXECUTOR_STORE", "sqlite:///jobs.db", "sqlite:///jobs.db"),
        ("EXECUTOR_STORE", None, None),
        ("EXECUTOR_STORE_TTL", "0.5", 0.5),
        ("EXECUTOR_STORE_TTL", 60, 60),
        ("EXECUTOR_STORE_ERRORS", "type", "type"),
        ("EXECUTOR_STORE_RECORDS", "all", "all"),
    ],
    ids=shown,
)
def test_a_value_or_the_string_for_it_is_read(
    app: Flask, key: str, value: object, read: object
) -> None:
    app.config[key] = value

    settings = Settings.from_app(app)

    assert getattr(settings, field_of(key)) == read
    assert type(getattr(settings, field_of(key))) is type(read)
    assert app.config[key] == value


def test_the_environment_can_set_every_kind_of_key(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_EXECUTOR_TYPE", "inline")
    monkeypatch.setenv("FLASK_EXECUTOR_MAX_WORKERS", "4")
    monkeypatch.setenv("FLASK_EXECUTOR_PUSH_APP_CONTEXT", "0")
    monkeypatch.setenv("FLASK_EXECUTOR_PUSH_REQUEST_CONTEXT", "off")
    monkeypatch.setenv("FLASK_EXECUTOR_PROPAGATE_EXCEPTIONS", "true")
    monkeypatch.setenv("FLASK_EXECUTOR_FUTURES_MAX_LENGTH", "null")
    monkeypatch.setenv("FLASK_EXECUTOR_COPY_G", "user,tenant")
    monkeypatch.setenv("FLASK_MAIL_EXECUTOR_COPY_G", '["user"]')
    app.config.from_prefixed_env()

    expected = Settings(
        type="inline",
        max_workers=4,
        push_app_context=False,
        push_request_context=False,
        propagate_exceptions=True,
        futures_max_length=None,
        copy_g=frozenset({"user", "tenant"}),
    )
    assert values_of(Settings.from_app(app)) == values_of(expected)
    assert Settings.from_app(app, "mail").copy_g == {"user"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        *(
            (key, value, COUNT)
            for key in COUNTS
            for value in (0, -1, True, 1.5, "many", "0", "-1", "1.5", " 4", "٤", "", [4])
        ),
        *(
            (key, value, SWITCH)
            for key in SWITCHES
            for value in (2, 1.5, None, "", "maybe", "t", "true ", [])
        ),
        *(
            ("EXECUTOR_COPY_G", value, NAMES)
            for value in (None, 2, "", "two words", "user,,tenant", [3], [["user"]], {"user": 1})
        ),
        ("EXECUTOR_TYPE", "thred", "expected one of 'thread', 'process', "),
        ("EXECUTOR_TYPE", "Thread", "'thread', 'process', "),
        *(("EXECUTOR_TYPE", value, "'thread'") for value in (None, "", 1, True)),
        *(("EXECUTOR_APP", value, "'package.module:app'") for value in ("", 1, Flask)),
        *(("EXECUTOR_DASK_ADDRESS", value, "'tcp://127.0.0.1:8786'") for value in ("", 1, True)),
        *(("EXECUTOR_MP_CONTEXT", value, "one of ") for value in ("", 1, True)),
        ("EXECUTOR_MP_CONTEXT", "spoon", "'spawn'"),
        *(
            ("EXECUTOR_LOOP_FACTORY", value, "the import path of a loop factory")
            for value in ("", 1, True, "no_such_module:loop", "asyncio:no_such_name", "math:pi")
        ),
        *(
            ("EXECUTOR_SHUTDOWN_TIMEOUT", value, "a number of seconds, 0 or more")
            for value in ("", "soon", -1, "-1", True, "nan", [])
        ),
        *(("EXECUTOR_STORE", value, "'sqlite:///jobs.db'") for value in ("", 1, True, [])),
        *(
            ("EXECUTOR_STORE_TTL", value, "a number of seconds above 0")
            for value in (None, "", "soon", 0, "0", -1, True, "nan", "inf", [])
        ),
        *(("EXECUTOR_STORE_ERRORS", value, "'text' or 'type'") for value in (None, "Text", 1)),
        *(("EXECUTOR_STORE_RECORDS", value, "'stored' or 'all'") for value in (None, "", [])),
    ],
    ids=shown,
)
def test_a_bad_value_is_refused_with_its_key_itself_and_what_was_expected(
    app: Flask, key: str, value: object, expected: str
) -> None:
    app.config[key] = app.config[f"MAIL_{key}"] = value

    with pytest.raises(InvalidSetting) as unnamed:
        Executor(app)
    with pytest.raises(ValueError, match="MAIL_EXECUTOR_") as named:
        Executor(app, name="mail")

    told = repr(value) if isinstance(value, (str, int, float)) else kind(value)
    assert str(unnamed.value).startswith(f"{key} is {told}; expected ")
    assert str(named.value).startswith(f"MAIL_{key} is {told}; expected ")
    assert expected in str(unnamed.value)
    assert unnamed.value.__suppress_context__ or unnamed.value.__context__ is None


def test_a_refused_config_can_be_mended(app: Flask) -> None:
    executor = Executor()
    app.config["EXECUTOR_MAX_WORKERS"] = "many"
    with pytest.raises(InvalidSetting):
        executor.init_app(app)
    assert not app.extensions

    app.config["EXECUTOR_MAX_WORKERS"] = "3"
    executor.init_app(app)

    assert executor.stats().workers == 3


def test_settings_are_read_once(app: Flask) -> None:
    app.config["EXECUTOR_MAX_WORKERS"] = 2
    executor = Executor(app)
    app.config["EXECUTOR_MAX_WORKERS"] = 3

    assert executor.stats().workers == 2


# Keys that are misspelt, or set too late


def warned(call: Callable[[], object]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


LIST = "the documentation lists the keys under Configuration"


@pytest.mark.parametrize(
    ("name", "key", "advice"),
    [
        ("", "EXECUTOR_MAX_WORKER", "key; did you mean EXECUTOR_MAX_WORKERS?"),
        ("", "EXECUTOR_MAXWORKERS", "key; did you mean EXECUTOR_MAX_WORKERS?"),
        ("", "EXECUTOR__TYPE", "key; did you mean EXECUTOR_TYPE?"),
        ("", "EXECUTOR_COLOUR", f"key of an executor; {LIST}"),
        ("mail", "MAIL_EXECUTOR_TYP", "key; did you mean MAIL_EXECUTOR_TYPE?"),
        ("executor", "EXECUTOR_EXECUTOR_TYP", "key; did you mean EXECUTOR_EXECUTOR_TYPE?"),
        ("mail", "EXECUTOR_MAIL_TYPE", "key; did you mean MAIL_EXECUTOR_TYPE?"),
        (
            "",
            "EXECUTOR_BIG_REPORTS_MAX_WORKERS",
            "key; did you mean BIG_REPORTS_EXECUTOR_MAX_WORKERS, for the executor 'big_reports'?",
        ),
    ],
)
def test_a_key_that_is_not_known_is_warned_of_with_the_one_that_was_meant(
    app: Flask, name: str, key: str, advice: str
) -> None:
    app.config[key] = "secret"

    [warning] = warned(lambda: Executor(app, name))

    assert str(warning.message) == f"{key} is not a config {advice}"
    assert warning.category is UserWarning
    assert warning.filename == __file__


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("", "executor_type"),
        ("", "EXECUTOR_type"),
        ("", "EXECUTORS"),
        ("", "EXECUTOR_MY TYPE"),
        ("", "EXECUTOR_EXECUTOR_TYPE"),
        ("", "EXECUTOR_EXECUTOR_TYP"),
        ("", "EXECUTOR_2_EXECUTOR_TYPE"),
        ("", "MAIL_EXECUTOR_TYP"),
        ("mail", "MAIL_EXECUTOR_EXECUTOR_TYPE"),
        ("mail", "EXECUTOR_TYP"),
        ("mail", "EXECUTOR_MAIL_COLOUR"),
        ("scheduler", "SCHEDULER_EXECUTORS"),
        ("", 5),
    ],
)
def test_a_key_that_may_belong_to_somebody_else_is_not_warned_of(
    app: Flask, name: str, key: str
) -> None:
    app.config[key] = "secret"

    assert warned(lambda: Executor(app, name)) == []


def test_where_warnings_are_errors_a_misspelt_config_can_be_mended(app: Flask) -> None:
    app.config["EXECUTOR_TYP"] = "inline"
    with pytest.raises(UserWarning, match="did you mean EXECUTOR_TYPE"):
        Executor(app)
    assert not app.extensions

    del app.config["EXECUTOR_TYP"]
    assert Executor(app).stats().workers > 0


def test_a_config_without_misspelt_keys_does_not_import_difflib() -> None:
    program = "import sys; from flask import Flask; from flask_executor import Executor\n"
    program += "before = 'difflib' in sys.modules; Executor(Flask('app'))\n"
    program += "assert before or 'difflib' not in sys.modules"

    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_key_that_was_set_too_late_is_warned_of_at_the_first_job_and_once(app: Flask) -> None:
    app.config["EXECUTOR_MAX_WORKERS"] = "2"
    executor = Executor(app)
    app.config.update(EXECUTOR_TYPE="inline", EXECUTOR_MAX_WORKERS=2, EXECUTOR_COPY_G=object())
    jobs = [lambda: executor.submit(abs, -1).result(), lambda: list(executor.map(abs, [-1]))]

    first, second = [warned(job) for job in jobs]
    executor.shutdown()

    assert [str(warning.message) for warning in first] == [
        f"{key} was changed after init_app, without effect; set it before init_app"
        for key in ("EXECUTOR_TYPE", "EXECUTOR_COPY_G")
    ]
    assert {(warning.category, warning.filename) for warning in first} == {(UserWarning, __file__)}
    assert second == []


def test_a_key_that_was_removed_has_not_been_changed(app: Flask) -> None:
    executor = Executor(app)
    del app.config["EXECUTOR_TYPE"]

    assert executor.submit(abs, -1).result() == 1
    executor.shutdown()


def test_where_warnings_are_errors_a_key_set_too_late_fails_that_submit_and_no_job(
    app: Flask,
) -> None:
    executor = Executor(app)
    app.config["EXECUTOR_TYPE"] = "inline"

    with pytest.raises(UserWarning, match="EXECUTOR_TYPE was changed"):
        executor.submit(abs, -1)
    before = executor.stats().submitted
    assert executor.submit(abs, -1).result() == 1
    executor.shutdown()

    assert before == 0


def test_settings_are_frozen() -> None:
    settings = Settings()

    with pytest.raises(AttributeError, match="'max_workers' was read in init_app"):
        settings.max_workers = 3
    with pytest.raises(TypeError):
        Settings("EXECUTOR_")  # type: ignore[misc]


def test_apps_have_settings_of_their_own() -> None:
    small, large = Flask("small"), Flask("large")
    small.config["EXECUTOR_MAX_WORKERS"], large.config["EXECUTOR_MAX_WORKERS"] = 1, 9
    executor = Executor(small)
    executor.init_app(large)

    for app, workers in ((small, 1), (large, 9)):
        with app.app_context():
            assert executor.stats().workers == workers


def test_keys_without_the_name_are_told_at_the_first_job_of_a_named_executor(
    app: Flask, executors: MakeExecutor
) -> None:
    app.config["EXECUTOR_MAX_WORKERS"] = 1
    named = executors(app, name="mail")

    with pytest.warns(UserWarning, match="not read by the executor 'mail'; its key is MAIL_EXEC"):
        named.submit(int)
    named.submit(int)


def test_keys_of_an_executor_without_a_name_are_its_own(
    app: Flask, executors: MakeExecutor
) -> None:
    named, _ = executors(app, name="mail"), executors(app, max_workers=1)

    named.submit(int)
