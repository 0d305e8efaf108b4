"""The Mandelbrot set, drawn in pure Python by many jobs at the same time.

The code does not know what runs its jobs. The environment says it, as any key of the config::

    FLASK_EXECUTOR_TYPE=process flask --app examples/mandelbrot run
    FLASK_EXECUTOR_TYPE=process FLASK_EXECUTOR_MAX_WORKERS=2 flask --app examples/mandelbrot bench

Other types are ``thread``, ``interpreter`` with Python 3.14, ``dask``, and ``inline``.
"""

import asyncio
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from itertools import repeat
from math import cos, pi, sqrt
from statistics import median
from time import perf_counter
from typing import NamedTuple

import click
from flask import Flask, abort, render_template, request, url_for

from flask_executor import Executor

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_EXECUTOR_TYPE is EXECUTOR_TYPE

executor = Executor(app)

# How many rows of the picture a job draws. Some rows take longer than others: with many more jobs
# than workers, all workers have something to do until the end.
ROWS = 16

# A point whose steps lead farther away than this never comes back.
ESCAPED = 2


class Picture(NamedTuple):
    """What to draw. It travels to the worker with each job, as its arguments do.

    :param x: the middle of the picture in the complex plane, its real part
    :param y: its imaginary part
    :param span: how much of the plane the picture is wide
    :param depth: after how many steps a point counts as one of the set
    :param width: in pixels
    """

    x: float
    y: float
    span: float
    depth: int
    width: int

    @property
    def height(self) -> int:
        """In pixels."""
        return self.width * 2 // 3


class Field(NamedTuple):
    """What a query argument may be: anybody can ask, and nobody is to ask for too much."""

    label: str
    parse: Callable[[str], float]
    default: float
    lowest: float
    highest: float


FIELDS = {
    "x": Field("Middle, real part", float, -0.65, -4, 4),
    "y": Field("Middle, imaginary part", float, 0.0, -4, 4),
    "span": Field("Width in the plane", float, 3.3, 1e-10, 8),
    "depth": Field("Steps at most", int, 200, 1, 1000),
    "width": Field("Width in pixels", int, 600, 30, 900),
}


@executor.job
def draw_rows(picture: Picture, first: int) -> bytes:
    """Draw some rows, a byte for each pixel; this is what takes the time."""
    pixel = picture.span / picture.width
    left = picture.x - picture.span / 2
    top = picture.y + picture.height * pixel / 2
    rows = bytearray()
    for row in range(first, min(first + ROWS, picture.height)):
        rows.append(0)  # PNG has a byte before each row; 0 says that the row is stored as it is
        for column in range(picture.width):
            point = complex(left + column * pixel, top - row * pixel)
            rows.append(colour_of(point, picture.depth))
    return bytes(rows)


def colour_of(point: complex, depth: int) -> int:
    """Return 0 for a point of the set, and for others how soon they escape, as 1 to 255."""
    z = 0j
    for step in range(depth):
        z = z * z + point
        if abs(z) > ESCAPED:
            return 1 + step % 255
    return 0


async def draw(picture: Picture) -> bytes:
    """Draw it by jobs that run in parallel, and return a PNG file."""
    firsts = range(0, picture.height, ROWS)
    parts = [part async for part in draw_rows.map_async(repeat(picture), firsts)]
    return png(picture.width, picture.height, b"".join(parts))


@app.get("/")
async def index() -> str:
    """Draw what the query asks for, and show it with the time it took."""
    picture = picture_of(request.args)
    began = perf_counter()
    drawn = await draw(picture)
    seconds = perf_counter() - began
    return render_template(
        "mandelbrot.html",
        picture=picture,
        data=b64encode(drawn).decode(),
        fields=FIELDS,
        executor_type=app.config["EXECUTOR_TYPE"],
        workers=executor.stats().workers,
        seconds=seconds,
        zoom_in=link_to(picture, picture.span / 2),
        zoom_out=link_to(picture, picture.span * 2),
    )


@app.cli.command("bench")
@click.option("--times", default=5, show_default=True, type=click.IntRange(min=1))
def bench(times: int) -> None:
    """Draw the same picture some times, and print the seconds that each took.

    One that does not count comes first: workers start when there is something to do.
    """
    picture = picture_of({})
    seconds = []
    for _ in range(1 + times):
        began = perf_counter()
        asyncio.run(draw(picture))
        seconds.append(perf_counter() - began)
    first, *others = seconds
    print(
        f"{app.config['EXECUTOR_TYPE']}, workers: {executor.stats().workers}, "
        f"{picture.width} x {picture.height} pixels; seconds: "
        f"{' '.join(f'{one:.2f}' for one in others)}; best {min(others):.2f}, "
        f"median {median(others):.2f}; the first one, with the start of the workers, {first:.2f}"
    )


def picture_of(args: Mapping[str, str]) -> Picture:
    """Read what to draw; a value that cannot be is answered with 400 and what was expected."""
    values = {}
    for name, field in FIELDS.items():
        text = args.get(name, str(field.default))
        try:
            value = field.parse(text)
        except ValueError:
            value = None
        if value is None or not field.lowest <= value <= field.highest:  # "nan" is a float, too
            kind = "a whole number" if field.parse is int else "a number"
            abort(
                400, f"{name} is {text!r}; expected {kind} from {field.lowest} to {field.highest}"
            )
        values[name] = value
    return Picture(**values)


def link_to(picture: Picture, span: float) -> str:
    """Return where the same picture is with another span, within what is allowed."""
    field = FIELDS["span"]
    span = min(max(span, field.lowest), field.highest)
    return url_for("index", **picture._replace(span=span)._asdict())


def png(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG file; *rows* are bytes, each the number of a colour of the palette.

    As in https://www.w3.org/TR/png-3/, with a palette and 8 bits for each pixel.
    """
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = {b"IHDR": header, b"PLTE": palette(), b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )


def palette() -> bytes:
    """Return red, green and blue for 256 numbers: black for the set, else from blue to gold."""
    colours = [0, 0, 0]
    for number in range(255):
        turn = 0.15 + sqrt(number / 255) * 2
        colours += [round(127.5 - 127.5 * cos(2 * pi * (turn - shift))) for shift in (0.2, 0.1, 0)]
    return bytes(colours)
