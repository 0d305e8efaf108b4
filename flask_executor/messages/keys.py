"""Config keys that look like those of an executor, but that no executor reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator


def complaints(keys: Iterable[object], prefix: str, known: Collection[str]) -> Iterator[str]:
    """Say of each of *keys* that is misspelt what was probably meant. No value is shown.

    :param prefix: that of the executor's own keys, such as ``EXECUTOR_`` or ``MAIL_EXECUTOR_``
    :param known: the executor's own keys without the prefix
    """
    own_part = prefix.removesuffix("EXECUTOR_")  # such as "MAIL_"
    swapped = f"EXECUTOR_{own_part}"
    for key in keys:
        # Flask's own loaders read names in capitals only; other keys belong to somebody else.
        if not (isinstance(key, str) and key.isidentifier() and key.isupper()):
            continue
        if key.startswith(prefix):
            yield from _complaints_about(key, prefix, known)
        elif own_part and key.startswith(swapped) and key.removeprefix(swapped) in known:
            yield f"{key} is not a config key; did you mean {prefix}{key.removeprefix(swapped)}?"


def _complaints_about(key: str, prefix: str, known: Collection[str]) -> Iterator[str]:
    rest = key.removeprefix(prefix)
    # EXECUTOR_EXECUTOR_TYPE and MAIL_EXECUTOR_EXECUTOR_TYPE are keys of executors that are named
    # "executor" and "mail_executor".
    if rest in known or "_EXECUTOR_" in f"_{rest}":
        return
    name = _name_in(rest, known) if prefix == "EXECUTOR_" else ""
    if name:
        meant = f"{name}_EXECUTOR{rest.removeprefix(name)}"
        yield f"{key} is not a config key; did you mean {meant}, for the executor {name.lower()!r}?"
        return
    from difflib import get_close_matches  # noqa: PLC0415 - slow to import, and rarely needed

    close = get_close_matches(rest, known, n=1)
    if close:
        yield f"{key} is not a config key; did you mean {prefix}{close[0]}?"
    else:
        yield (
            f"{key} is not a config key of an executor; "
            "the documentation lists the keys under Configuration"
        )


def _name_in(rest: str, known: Collection[str]) -> str:
    """The name in "REPORTS_MAX_WORKERS", which ends with a known key; "" if there is none."""
    return next((rest.removesuffix(f"_{each}") for each in known if rest.endswith(f"_{each}")), "")
