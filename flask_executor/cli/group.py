"""The commands ``flask executor …``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click
from flask import current_app
from flask.cli import AppGroup

from ..exceptions import InvalidSetting
from ..jobs.ids import is_id
from ..records.record import STATES, time_running
from .chosen import choose, settings_of, telling_if_away, with_store
from .details import details_of
from .output import STATE, Column, print_json, print_line, print_pairs, print_table
from .words import LINE, WORD, ago, duration, fate_of, key_of, note_on, visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..records.record import JobRecord, RecordState
    from .chosen import Chosen


commands = AppGroup("executor", help="Show and cancel the jobs of the app.")

# Seconds, after which the command says that a job still runs.
_CANCELLED_WITHIN = 2.0

_name = click.option("--name", default="", help="The name of the executor, if it has one.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")
_key = click.argument("key")


def _check_id(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Refuse a text that is no id: it would be before or after all ids, and the page wrong."""
    if value is not None and not is_id(value):
        raise click.BadParameter(f"'{visible(value, WORD)}' is not the id of a job")
    return value


def _command(fn: Callable[..., None]) -> click.Command:
    """Make a command of *fn*, which gets the executor that ``--name`` says."""

    @wraps(fn)
    def run(name: str, **arguments: Any) -> None:
        with telling_if_away():
            fn(choose(name), **arguments)

    command: click.Command = commands.command(fn.__name__.strip("_"))(_name(run))
    return command


@_command
@_as_json
def status(chosen: Chosen, *, as_json: bool) -> None:
    """Count the jobs in each state, and the processes with jobs."""
    counts = chosen.records.counts()
    processes = chosen.records.processes()
    alive = sum(process.is_alive for process in processes)
    gone = len(processes) - alive
    if as_json:
        found = {"executor": chosen.name, "app": chosen.app, "counts": counts}
        print_json(found | {"processes": alive, "processes_gone": gone})
        return
    print_line(str(chosen))
    table = [(state, [f"{count:,}"]) for state, count in counts.items()]
    text = f"{alive} with jobs" + (f", {gone} gone" if gone else "")
    print_pairs([*table, ("processes", [text])])


@_command
@click.option("--state", type=click.Choice(STATES), help="Jobs in this state.")
@click.option("--job", metavar="NAME", help="Jobs whose function has this name.")
@click.option("--key", metavar="TEXT", help="Jobs whose key begins with this text.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--before",
    metavar="ID",
    callback=_check_id,
    help="Jobs submitted before this one: the next page.",
)
@_as_json
def list_(  # named after the command
    chosen: Chosen,
    *,
    state: RecordState | None,
    job: str | None,
    key: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List jobs, those that were submitted last first."""
    found = chosen.records.list(state, job, limit + 1, before, key, results=False)
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    if as_json:
        print_json({"jobs": [record.as_dict() for record in shown], "next": following})
        return
    if shown:
        now = datetime.now(UTC)
        print_table(_JOB_COLUMNS, [_job_row(record, now) for record in shown])
    else:
        click.echo("There are no such jobs.", err=True)
    if following is not None:
        click.echo(f"There are more: add --before {following}", err=True)


@_command
@_key
@_as_json
def show(chosen: Chosen, *, key: str, as_json: bool) -> None:
    """Show all that is known of the job KEY.

    KEY is the key or the id of the job.
    """
    record = _record_of(chosen, key)
    if as_json:
        print_json(record.as_dict())
    else:
        print_pairs(details_of(record, datetime.now(UTC)))


@_command
@_key
@_as_json
def cancel(chosen: Chosen, *, key: str, as_json: bool) -> None:
    """Cancel the job KEY, in whichever process it is.

    KEY is the key or the id of the job.
    """
    record = _record_of(chosen, key)
    shown = visible(key, LINE)
    if not chosen.records.cancel(record.id):
        record = chosen.records.get(record.id) or record
        _refuse(f"the job '{shown}' has ended already: {fate_of(record)}")
    was_running = record.state == "running"
    record = asyncio.run(chosen.records.wait(record.id, _CANCELLED_WITHIN)) or record
    if as_json:
        print_json(record.as_dict())
    elif record.state == "cancelled":
        print_line(f"{shown} is cancelled; it {'was running' if was_running else 'has not run'}.")
    elif record.is_ended:
        print_line(f"{shown} was asked to stop, and has ended: {fate_of(record)}.")
    else:
        print_line(
            f"{shown} was asked to stop; it runs until its code looks at "
            "current_job.cancel_requested, or ends."
        )


@_command
@_key
@_as_json
def forget(chosen: Chosen, *, key: str, as_json: bool) -> None:
    """Delete the record of the job KEY, which has ended.

    KEY is the key or the id of the job.
    """
    record = _record_of(chosen, key)
    shown = visible(key, LINE)
    if not chosen.records.forget(record.id):
        _refuse(f"the job '{shown}' has not ended: {fate_of(record)}; cancel it first")
    if as_json:
        print_json(record.as_dict())
    else:
        print_line(f"The record of {shown} is deleted.")


@_command
@_as_json
def workers(chosen: Chosen, *, as_json: bool) -> None:
    """List the processes that have jobs which have not ended."""
    processes = chosen.records.processes()
    if as_json:
        print_json({"processes": [process.as_dict() for process in processes]})
        return
    if not processes:
        click.echo("No process has jobs that have not ended.", err=True)
        return
    now = datetime.now(UTC)
    columns = [
        Column("HOST"),
        Column("PID", is_number=True),
        Column(STATE, is_whole=True),
        Column("SEEN", is_whole=True),
        *(Column(title, is_number=True) for title in ("RUNNING", "PENDING", "LOST")),
    ]
    rows = [
        [
            visible(process.host, WORD),
            str(process.pid),
            "alive" if process.is_alive else "gone",
            "" if process.seen_at is None else ago(process.seen_at, now),
            str(process.running),
            str(process.pending),
            str(process.lost),
        ]
        for process in processes
    ]
    print_table(columns, rows)


@_command
@click.option(
    "--interval",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="Seconds between two looks at the records.",
)
def watch(chosen: Chosen, *, interval: float) -> None:
    """Follow the jobs in the terminal, until q or Ctrl-C."""
    from .watching import watch  # noqa: PLC0415 - few commands need it

    watch(chosen, interval)


@commands.command("create-store")
@_name
def create_store(name: str) -> None:
    """Make the tables of EXECUTOR_STORE.

    Adds the columns that an older version did not have. Does nothing if all is there.
    """
    settings = settings_of(name)
    url = with_store(settings)
    # SQLAlchemy, which they import, is there: `init_app` has read the URL.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from ..records.engine import make_engine  # noqa: PLC0415
    from ..records.tables import create_tables  # noqa: PLC0415

    engine = make_engine(url, current_app.instance_path)
    try:
        made = create_tables(engine, f"{settings.prefix}STORE")
    except DBAPIError as error:
        raise click.ClickException(f"the tables cannot be made: {error.orig}") from None
    except InvalidSetting as error:
        raise click.ClickException(str(error)) from None
    finally:
        engine.dispose()
    for each in made:
        click.echo(f"made the {each}")
    if not made:
        click.echo("there was nothing to make: all tables are there")


_JOB_COLUMNS = [
    Column(STATE, is_whole=True),
    Column("JOB"),
    Column("KEY"),
    Column("SUBMITTED", is_whole=True),
    Column("RAN", is_whole=True, is_number=True),
    Column("NOTE"),
    Column("ID", is_whole=True, is_extra=True),
]


def _job_row(record: JobRecord, now: datetime) -> list[str]:
    seconds = time_running(record, now)
    return [
        record.state,
        visible(record.name, WORD),
        key_of(record, WORD),
        ago(record.submitted_at, now),
        "" if seconds is None else duration(seconds),
        note_on(record),
        record.id,
    ]


def _record_of(chosen: Chosen, key: str) -> JobRecord:
    record = chosen.records.get(key)
    if record is None:
        _refuse(f"{chosen} has no record of a job with the key or the id '{visible(key, LINE)}'")
    return record


def _refuse(message: str) -> NoReturn:
    raise click.ClickException(message)
