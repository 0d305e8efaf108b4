"""The example that draws the Mandelbrot set: its picture, its page, and its command."""

from __future__ import annotations

import base64
import gc
import html
import importlib
import multiprocessing
import re
import signal
import struct
import sys
import zlib

import pytest

from tests.served.servers import served
from tests.support import ROOT

EXAMPLES = ROOT / "examples"

SMALL = {"width": 60, "depth": 40}


@pytest.fixture
def load(monkeypatch):
    """Load a new copy of the example, with a config from the environment."""
    loaded = []

    def load(**config):
        for key, value in ({"executor_max_workers": 2} | config).items():
            monkeypatch.setenv(f"FLASK_{key.upper()}", str(value))
        loaded.append(importlib.import_module("mandelbrot"))
        return loaded[0]

    monkeypatch.syspath_prepend(EXAMPLES)
    yield load
    for example in loaded:
        example.executor.shutdown()
        del sys.modules["mandelbrot"]
    # Without EXECUTOR_ASYNC_VIEWS, asgiref runs an async view in a thread that lives as long as
    # what the view has raised, which is part of a cycle.
    gc.collect()


@pytest.fixture
def example(load):
    """The example with its jobs inline."""
    return load(executor_type="inline")


@pytest.fixture
def client(example):
    return example.app.test_client()


@pytest.mark.parametrize(
    ("executor_type", "has_processes"), [("inline", False), ("thread", False), ("process", True)]
)
def test_the_picture_is_the_same_wherever_its_jobs_run(load, executor_type, has_processes):
    example = load(executor_type=executor_type, executor_mp_context="spawn")
    page = example.app.test_client().get("/", query_string=SMALL).text

    assert picture_in(page) == drawn_without_jobs(example, **SMALL)
    assert bool(multiprocessing.active_children()) == has_processes


@pytest.mark.parametrize("width", [30, 50, 61])
def test_the_picture_is_a_png_of_the_size_that_was_asked_for(client, width):
    height = width * 2 // 3
    chunks = read_png(picture_in(client.get("/", query_string=SMALL | {"width": width}).text))

    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (width, height, 8, 3, 0, 0, 0)
    assert len(chunks[b"PLTE"]) == 256 * 3
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (1 + width)


def test_points_of_the_set_are_black_and_the_others_are_not(client):
    query = {"x": 1.5, "y": 0, "span": 3, "width": 60, "depth": 40}  # from 0 to 3
    chunks = read_png(picture_in(client.get("/", query_string=query).text))

    middle_row = zlib.decompress(chunks[b"IDAT"])[20 * 61 + 1 : 21 * 61]
    assert set(middle_row[:5]) == {0}  # below 1/4 a point never escapes
    assert 0 not in middle_row[6:]
    assert max(middle_row[6:]) <= 40
    colours = re.findall(rb"...", chunks[b"PLTE"], re.DOTALL)
    assert [number for number, colour in enumerate(colours) if colour == b"\0\0\0"] == [0]


def test_a_picture_has_its_middle_where_it_was_asked_for(client):
    def pixels(**query):
        page = client.get("/", query_string=SMALL | {"span": 0.5} | query).text
        return zlib.decompress(read_png(picture_in(page))[b"IDAT"])

    above, below = pixels(x=-0.5, y=0.75), pixels(x=-0.5, y=-0.75)

    assert above != below
    # The set is its own mirror image: but for the top row, all rows are there upside down.
    rows_above = [above[at : at + 61] for at in range(0, len(above), 61)]
    rows_below = [below[at : at + 61] for at in range(0, len(below), 61)]
    assert b"".join(rows_above[:20]).count(0) < b"".join(rows_above[20:]).count(0)
    assert rows_above[1:] == rows_below[:0:-1]


def test_the_page_says_what_ran_the_jobs_and_how_long_it_took(load):
    example = load(executor_type="thread")
    page = example.app.test_client().get("/", query_string=SMALL).text

    facts = dict(re.findall(r"<dt>(.+?)</dt><dd>(.+?)</dd>", page))
    assert re.fullmatch(r"\d+\.\d\d s", facts.pop("Drawn in"))
    assert facts == {"EXECUTOR_TYPE": "thread", "Workers": "2"}


def test_the_form_of_the_page_has_what_was_drawn(client):
    query = {"x": "-0.5", "y": "0.25", "span": "1e-05", "depth": "41", "width": "61"}
    page = client.get("/", query_string=query).text

    assert dict(re.findall(r'<input name="(\w+)" type="number" value="(.+?)"', page)) == query


def test_every_link_of_the_page_leads_to_a_picture(client, example, monkeypatch):
    make_small(example, monkeypatch)
    for span in (1e-10, 3.3, 8):
        page = client.get("/", query_string={"span": span}).text
        links = re.findall(r'<a href="(.+?)"', page)

        responses = [client.get(html.unescape(link)) for link in links]

        assert len(links) == 3
        assert {response.status_code for response in responses} == {200}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("x", "", "a number from -4 to 4"),
        ("x", "left", "a number from -4 to 4"),
        ("x", "nan", "a number from -4 to 4"),
        ("y", "-4.1", "a number from -4 to 4"),
        ("y", "inf", "a number from -4 to 4"),
        ("span", "0", "a number from 1e-10 to 8"),
        ("span", "-1", "a number from 1e-10 to 8"),
        ("depth", "0", "a whole number from 1 to 1000"),
        ("depth", "1001", "a whole number from 1 to 1000"),
        ("depth", "9" * 5000, "a whole number from 1 to 1000"),
        ("width", "60.0", "a whole number from 30 to 900"),
        ("width", "29", "a whole number from 30 to 900"),
        ("width", "1000000000", "a whole number from 30 to 900"),
    ],
)
def test_an_argument_that_cannot_be_is_answered_with_what_can(client, name, value, expected):
    response = client.get("/", query_string={name: value})

    assert response.status_code == 400
    assert f"{name} is {value!r}; expected {expected}" in html.unescape(response.text)


def test_a_bad_argument_is_not_markup(client):
    response = client.get("/", query_string={"x": "<script>"})

    assert response.status_code == 400
    assert "<script>" not in response.text


@pytest.mark.parametrize("end", ["lowest", "highest"])
def test_the_limits_are_allowed(example, end):
    limits = {name: getattr(field, end) for name, field in example.FIELDS.items()}

    picture = example.picture_of({name: str(value) for name, value in limits.items()})

    assert picture._asdict() == limits


def test_the_command_prints_the_seconds_of_each_picture_but_the_first(load, monkeypatch):
    example = load(executor_type="thread")
    make_small(example, monkeypatch)
    seconds = [100, 14, 11, 12]
    times = iter([time for one in seconds for time in (0, one)])
    monkeypatch.setattr(example, "perf_counter", lambda: next(times))

    result = example.app.test_cli_runner().invoke(args=["bench", "--times", "3"])

    assert result.exit_code == 0, result.output
    assert result.output == (
        "thread, workers: 2, 60 x 40 pixels; seconds: 14.00 11.00 12.00; best 11.00, "
        "median 12.00; the first one, with the start of the workers, 100.00\n"
    )
    assert example.executor.stats().succeeded == 4 * 3


def test_the_command_draws_once_at_least(example):
    result = example.app.test_cli_runner().invoke(args=["bench", "--times", "0"])

    assert result.exit_code == 2
    assert "x>=1" in result.output


@pytest.mark.parametrize(
    "config",
    [
        {"executor_type": "process"},
        {"executor_type": "process", "executor_mp_context": "spawn"},
        pytest.param(
            {"executor_type": "interpreter"},
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="needs Python 3.14"),
        ),
        {"executor_type": "dask"},
    ],
    ids=lambda config: "-".join(config.values()),
)
def test_workers_find_the_app_where_flask_run_has_loaded_it(load, config):
    example = load(**config)
    command = "flask --app examples/mandelbrot run --port 0"
    # SIGTERM would end it at once, and a Dask worker that it leaves behind may log that.
    with served(command, ROOT, signal.SIGINT) as client:
        page = client.get("/", params=SMALL).text

    assert f"<dt>EXECUTOR_TYPE</dt><dd>{config['executor_type']}</dd>" in page
    assert picture_in(page) == drawn_without_jobs(example, **SMALL)


def make_small(example, monkeypatch):
    """Have the example draw a small picture where nothing else is asked for."""
    for name, value in SMALL.items():
        monkeypatch.setitem(example.FIELDS, name, example.FIELDS[name]._replace(default=value))


def drawn_without_jobs(example, **query):
    """The picture as calls of the plain function give it, one after the other."""
    picture = example.picture_of({name: str(value) for name, value in query.items()})
    firsts = range(0, picture.height, example.ROWS)
    rows = b"".join(example.draw_rows(picture, first) for first in firsts)
    return example.png(picture.width, picture.height, rows)


def picture_in(page):
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', page)[1])


def read_png(data):
    """The chunks of a PNG, by their names, with their checksums checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunks[name] = data[at + 8 : at + 8 + length]
        [checksum] = struct.unpack_from(">I", data, at + 8 + length)
        assert checksum == zlib.crc32(name + chunks[name])
        at += 12 + length
    assert at == len(data)
    return chunks
