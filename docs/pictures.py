"""The pictures of docs/explanation/: `python docs/pictures.py` writes them to docs/images/.

Each has a light panel of its own, so a dark page shows it, too. Units are chosen so that the text
can be read on a phone: a picture is 480 units wide, and its text is 15 units high.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"

WIDTH = 480
LINE = 19  # from one line of text to the next

# The fill and the border of a box.
COLOURS = {
    "plain": ("#f6f8fa", "#8c959f"),
    "blue": ("#ddf0ff", "#2f6fb5"),
    "yellow": ("#fff4d1", "#9a6b00"),
    "green": ("#ddf6e2", "#1a7f37"),
    "red": ("#ffe3e0", "#b3261e"),
    "white": ("#ffffff", "#8c959f"),
}

STYLE = (
    "text{font:15px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}"
    ".head{font-weight:600}"
    ".small{font-size:14px;fill:#424a53}"
    ".way{fill:none;stroke:#424a53;stroke-width:1.6}"
)


@dataclass
class Picture:
    """An SVG picture that is being drawn.

    :param name: of its file, without the ending
    :param title: what it shows, for people who do not see it
    :param height: in units; the width is the same for all
    """

    name: str
    title: str
    height: int
    parts: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        head: str = "",
        *lines: str,
        colour: str = "plain",
        is_dashed: bool = False,
    ) -> None:
        """Draw a box with a heading and lines of text in its middle."""
        fill, border = COLOURS[colour]
        dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
        self.parts.append(
            f'<g class="box"><rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" '
            f'fill="{fill}" stroke="{border}" stroke-width="1.5"{dashes}/>'
        )
        texts = [(head, "head"), *((line, "small") for line in lines)] if head else []
        top = y + height / 2 - (len(texts) - 1) * LINE / 2 + 5
        for row, (text, kind) in enumerate(texts):
            self._text(x + width / 2, top + row * LINE, text, kind, "middle")
        self.parts.append("</g>")

    def frame(  # noqa: PLR0917 - as box
        self, x: float, y: float, width: float, height: float, head: str, colour: str = "white"
    ) -> None:
        """Draw a box around others, with its heading at the top."""
        fill, border = COLOURS[colour]
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" '
            f'fill="{fill}" stroke="{border}" stroke-width="1.5"/>'
        )
        self._text(x + 12, y + 22, head, "head", "start")

    def note(self, x: float, y: float, *lines: str, anchor: str = "start") -> None:
        """Write lines of text; *x* and *y* are those of the first one."""
        for row, line in enumerate(lines):
            self._text(x, y + row * LINE, line, "small", anchor)

    def way(self, *points: tuple[float, float], is_dashed: bool = False) -> None:
        """Draw an arrow through *points*."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
        self.parts.append(f'<polyline class="way" points="{path}" marker-end="url(#tip)"{dashes}/>')

    def _text(self, x: float, y: float, text: str, kind: str, anchor: str) -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self) -> str:
        """The text of the file."""
        begin = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" '
            f'width="{WIDTH * 1.2:g}" height="{self.height * 1.2:g}" role="img">\n'
            f"<title>{escape(self.title)}</title>\n"
            f"<style>{STYLE}</style>\n"
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            'markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
            '<path d="M0 0 8 4 0 8z" fill="#424a53"/></marker></defs>\n'
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{self.height - 2}" rx="12" '
            'fill="#ffffff" stroke="#d0d7de"/>'
        )
        return "\n".join([begin, *self.parts, "</svg>", ""])


def job_life() -> Picture:
    """The states of a job."""
    it = Picture(
        "job-life",
        "The states of a job: from submit to pending, from pending to running, and from running to "
        "succeeded, failed or cancelled; cancel leads from pending to cancelled, and a retry leads "
        "from running back to pending",
        508,
    )
    it.note(240, 32, "submit(fn, …)", anchor="middle")
    it.way((240, 42), (240, 66))
    it.box(
        110,
        68,
        260,
        76,
        "pending",
        "waits for a worker, a delay,",
        "a commit, a free slot, or a retry",
        colour="yellow",
    )
    it.way((240, 144), (240, 202))
    it.note(228, 178, "it starts", anchor="end")
    it.box(110, 204, 260, 58, "running", "its code runs", colour="blue")
    # A retry leads back.
    it.way((370, 233), (420, 233), (420, 106), (372, 106))
    it.note(412, 174, "retry", anchor="end")
    it.way((170, 262), (100, 330))
    it.way((240, 262), (240, 330))
    it.way((310, 262), (380, 330))
    it.box(30, 332, 130, 96, "succeeded", "it returned", colour="green")
    it.box(
        175, 332, 130, 96, "failed", "it raised,", "timed out, or its", "worker died", colour="red"
    )
    it.box(320, 332, 130, 96, "cancelled", "it was stopped", colour="plain")
    # Cancelled while it waited.
    it.way((370, 86), (464, 86), (464, 380), (452, 380))
    it.note(376, 80, "cancel")
    it.note(24, 460, "Records have one state more:")
    it.note(24, 483, "lost: the process of the job is gone.")
    return it


def context() -> Picture:
    """What a job sees of the context of its view."""
    it = Picture(
        "context",
        "What a job gets of its view: a copy of contextvars and of the public names of g, the same "
        "request and session, and an app context and a database session of its own",
        432,
    )
    it.box(20, 20, 150, 34, "View", colour="blue")
    it.box(310, 20, 150, 34, "Job", colour="green")
    rows = [
        ("contextvars", "copy", "contextvars"),
        ("g", "copy of names", "g of its own"),
        ("request", "the same", "request"),
        ("session", "the same", "session"),
        ("app context", "", "a new one"),
        ("db.session", "", "a new one"),
    ]
    for number, (left, middle, right) in enumerate(rows):
        y = 76 + number * 52
        it.box(20, y, 150, 38, left)
        if middle:
            it.way((170, y + 24), (308, y + 24))
            it.note(240, y + 16, middle, anchor="middle")
        it.box(310, y, 150, 38, right, colour="plain" if middle else "green")
    it.note(20, 408, "Taken at submit. Nothing is written back.")
    return it


def inside() -> Picture:
    """The threads and processes of an executor."""
    it = Picture(
        "inside",
        "Inside the process of the app: request threads submit; functions go to the waiting list "
        "and from there to pool threads; coroutine functions go to the loop thread; callback "
        "threads run what follows coroutine jobs; with other types, the jobs run in separate "
        "workers",
        538,
    )
    it.frame(14, 14, 452, 400, "The process of your app")
    it.box(110, 48, 260, 52, "Request threads", "views call submit", colour="blue")
    it.way((176, 100), (140, 138))
    it.note(148, 122, "def", anchor="end")
    it.way((304, 100), (340, 138))
    it.note(332, 122, "async def")
    it.box(44, 140, 190, 52, "Waiting list", "in order of submission", colour="yellow")
    it.way((139, 192), (139, 230))
    it.box(
        44,
        232,
        190,
        70,
        "Pool threads",
        "MAX_WORKERS of them,",
        "and extra ones",
        colour="green",
    )
    it.box(254, 140, 200, 70, "Loop thread", "all coroutine jobs", "and all timers", colour="green")
    it.way((354, 210), (354, 248))
    it.box(254, 250, 200, 52, "Callback threads", "callbacks and teardown")
    it.box(254, 338, 200, 52, "Records thread", "writes records", is_dashed=True)
    it.way((44, 166), (28, 166), (28, 484), (42, 484), is_dashed=True)
    it.note(40, 340, "with the types process,", "interpreter and dask")
    it.box(
        44,
        446,
        190,
        76,
        "Separate workers",
        "each loads the app,",
        "one job at a time",
        colour="green",
        is_dashed=True,
    )
    it.way((354, 390), (354, 456), is_dashed=True)
    it.box(274, 458, 160, 52, "Database", "EXECUTOR_STORE", is_dashed=True)
    return it


def cancellation() -> Picture:
    """What a cancel does."""
    it = Picture(
        "cancellation",
        "What a cancel does to a job: if the job waits, its code never runs; in a thread, it is "
        "asked to stop; a coroutine job gets CancelledError at its next await; in a worker "
        "process, it runs on, and a timeout ends it; in an interpreter or on Dask, it runs on in "
        "any case",
        488,
    )
    it.box(150, 18, 180, 36, "future.cancel()", colour="blue")
    rows = [
        ("It waits", "yellow", "Its code never runs.", "The state is cancelled."),
        ("It runs in a thread", "green", "It is asked to stop.", "Your code must check."),
        ("It is a coroutine", "green", "Its await is cancelled.", "Its finally blocks run."),
        ("In a process", "green", "It runs on.", "A timeout ends it."),
        ("Interpreter, Dask", "green", "It runs on,", "also after a timeout."),
    ]
    it.way((150, 36), (24, 36), (24, 429), (38, 429))
    for number, (where, colour, *what) in enumerate(rows):
        y = 78 + number * 80
        if number < len(rows) - 1:
            it.way((24, y + 31), (38, y + 31))
        it.box(40, y, 170, 62, where, colour=colour)
        it.way((210, y + 31), (236, y + 31))
        it.box(238, y, 224, 62, what[0], what[1], colour="plain")
    return it


def lost_jobs() -> Picture:
    """What is left when a process has died."""
    it = Picture(
        "lost-jobs",
        "When a process dies, the jobs in its memory are gone: those that wait and those that run. "
        "Records in the database stay, and read lost within 8 seconds. Another process runs on "
        "and can submit the job again",
        424,
    )
    it.frame(14, 14, 220, 226, "A process dies")
    it.box(28, 48, 192, 52, "jobs that wait", "gone", colour="red")
    it.box(28, 110, 192, 52, "jobs that run", "gone, half done", colour="red")
    it.box(28, 172, 192, 52, "arguments, results", "gone", colour="red")
    it.frame(246, 14, 220, 226, "The other process")
    it.box(260, 48, 192, 52, "its own jobs", "go on", colour="green")
    it.box(260, 172, 192, 52, "your code", "submits again", colour="blue")
    it.box(
        70,
        302,
        340,
        96,
        "Database of EXECUTOR_STORE",
        "keys, states, ended results: kept",
        "within 8 seconds: the state lost",
        colour="green",
    )
    it.way((124, 240), (124, 300), is_dashed=True)
    it.note(134, 274, "written before")
    it.way((356, 302), (356, 226))
    it.note(346, 274, "reads: lost", anchor="end")
    return it


def loops() -> Picture:
    """The event loops of async views."""
    it = Picture(
        "loops",
        "Stock Flask runs each async view in a thread with a loop of its own, and both end with "
        "the view; with EXECUTOR_ASYNC_VIEWS all async views and coroutine jobs run on one loop, "
        "which stays, and code that blocks stops all of them",
        462,
    )
    it.frame(14, 14, 452, 176, "Stock Flask: a loop for each request")
    for number in (1, 2):
        y = number * 68 - 20
        it.box(28, y, 150, 56, f"Request {number}", "its thread waits", colour="blue")
        it.way((178, y + 28), (234, y + 28))
        it.box(236, y, 216, 56, f"Thread with loop {number}", "ends with the view", colour="green")
    it.frame(14, 204, 452, 244, "EXECUTOR_ASYNC_VIEWS: one loop")
    rows = [("Request 1", "blue"), ("Request 2", "blue"), ("Coroutine job", "yellow")]
    for number, (head, colour) in enumerate(rows):
        y = 238 + number * 68
        waits = () if colour == "yellow" else ("its thread waits",)
        it.box(28, y, 150, 56, head, *waits, colour=colour)
        it.way((178, y + 28), (234, y + 28))
    it.box(
        236,
        238,
        216,
        192,
        "The executor's loop",
        "one thread, which stays;",
        "views and jobs can share",
        "HTTP clients there;",
        "code that blocks",
        "stops all of them",
        colour="green",
    )
    return it


PICTURES = [job_life, context, loops, inside, cancellation, lost_jobs]

if __name__ == "__main__":
    for draw in PICTURES:
        picture = draw()
        (IMAGES / f"{picture.name}.svg").write_text(picture.render(), "utf-8")
