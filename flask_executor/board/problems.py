"""The reason why a request is refused, for people and as JSON."""

from __future__ import annotations


class Problem(Exception):
    """The reason why a request is refused.

    :param code: the HTTP status
    :param title: what is wrong, in a few words
    :param text: what to do, in a sentence or two
    """

    def __init__(self, code: int, title: str, text: str) -> None:
        super().__init__(f"{title}: {text}")
        self.code = code
        self.title = title
        self.text = text

    def as_dict(self) -> dict[str, str]:
        """All of it, for JSON."""
        return {"error": self.title, "description": self.text}


def unknown_job() -> Problem:
    """The problem that a job has no record."""
    return Problem(
        404,
        "There is no such job",
        "Its record was forgotten or has expired, or it never had one: without a key, a job has "
        "one if EXECUTOR_STORE_RECORDS is 'all'.",
    )
