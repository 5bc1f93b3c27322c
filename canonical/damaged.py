"""What can still be read of a message that is refused, for whoever has to look at it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jiter
import msgspec

READ_BYTES_MAX = 65_536
"""The attributes of an event come first, before data of whatever size."""
_TEXT_LENGTH_MAX = 512
_STEPS_MAX = 12
_DUPLICATE = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+$', re.DOTALL)
_POSITION = re.compile(r"at line (\d+) column (\d+)$")


def told_of_itself(body: bytes, headers: Mapping[str, Any]) -> dict[str, Any]:
    """``source``, ``type``, ``subject`` (text) and ``sequence`` (a whole number), as far as they are read."""
    attributes = _object(body[:READ_BYTES_MAX]) | {
        name.lower().removeprefix("ce-"): value
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }
    found: dict[str, Any] = {
        name: value
        for name in ("source", "type", "subject")
        if isinstance(value := attributes.get(name), str)
        and value.isprintable()
        and len(value) <= _TEXT_LENGTH_MAX
    }
    number = str(attributes.get("sequence", ""))
    if number.isascii() and number.isdigit() and len(number) < 20 and int(number) < 2**63:
        found["sequence"] = int(number)
    return found


def place(body: bytes, error: ValueError) -> str:
    """Path of the field where reading JSON failed, such as ``data.lines.0.quantity``; empty: of none."""
    twice = _DUPLICATE.match(str(error))
    for start in _starts(body[: _position(body, error)], str(error), twice):
        try:
            found = jiter.from_json(start, partial_mode="trailing-strings", cache_mode="none")
        except ValueError:
            continue
        steps = list(_last(found))
        return ".".join(steps if twice is None else [*steps[:-1], twice[1]])
    return ""


def spread(body: bytes) -> str | None:
    """A body as people read and edit it: JSON over several lines, spelled as it was. None: it is no text."""
    try:
        return msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _object(body: bytes) -> dict[str, Any]:
    """The members of a JSON object up to where it cannot be read."""
    for _ in range(2):  # as it is; else up to where that failed
        try:
            found = jiter.from_json(body, partial_mode=True, cache_mode="none")
        except ValueError as error:
            body = body[: _position(body, error)].rstrip(b", \t\r\n")
        else:
            return found if isinstance(found, dict) else {}
    return {}


def _position(body: bytes, error: ValueError) -> int:
    """Where jiter says it stopped, counted in bytes from 0; the length of the body where it does not say."""
    match = _POSITION.search(str(error))
    if match is None:
        return len(body)
    line, column = int(match[1]), int(match[2])
    before = 0
    for _ in range(line - 1):
        before = body.find(b"\n", before) + 1
    return before + max(column - 1, 0)


def _starts(before: bytes, said: str, twice: re.Match[str] | None) -> Iterator[bytes]:
    """What comes before the fault, with a value in the place of what is at fault."""
    if said.startswith("recursion limit"):
        yield before[:-8]  # some levels less
        return
    if twice is not None:  # under another name, since an object shows where it had the first of the two
        yield before[: max(before.rfind(b'"' + twice[1].encode() + b'"'), 0)] + b'"\\u0000": null'
    yield before.rstrip(b"-+.0123456789eE") + b"null"
    if b'"' in before:
        yield before[: before.rfind(b'"')] + b"null"


def _last(value: Any) -> Iterator[str]:
    """The path to what was read last."""
    for _ in range(_STEPS_MAX):
        if isinstance(value, dict) and value:
            name, value = list(value.items())[-1]
            yield name
        elif isinstance(value, list) and value:
            yield str(len(value) - 1)
            value = value[-1]
        else:
            return
    yield "…"
