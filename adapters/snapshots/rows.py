"""Rows of a file, whichever way it is written. Raises RejectedMessage naming ``line 7, quantity``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from canonical.errors import RejectedMessage

T = TypeVar("T", bound=BaseModel)
Row = tuple[str, dict[str, Any]]
"""Where it stands in the file, and its fields."""


def read_rows(body: bytes, member: str) -> list[Row]:
    """Rows of a CSV with a header, of a JSON list, or of the *member* of a JSON object.

    An object's own ``as_of`` is that of the rows which have none.
    """
    if body.lstrip()[:1] in (b"{", b"["):
        return list(_json(body, member))
    return list(_csv(body))


def valid(kind: type[T], where: str, row: dict[str, Any]) -> T:
    try:
        return kind.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise RejectedMessage(first["msg"], field=f"{where}, {field}" if field else where) from error


def _csv(body: bytes) -> Iterator[Row]:
    try:
        rows = csv.DictReader(io.StringIO(body.decode("utf-8-sig")), strict=True)
        for row in rows:
            where = f"line {rows.line_num}"
            if None in row or None in row.values():
                raise RejectedMessage("it has another number of fields than the header", field=where)
            yield where, {name.strip(): value.strip() for name, value in row.items() if value.strip()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise RejectedMessage(str(error)) from error


def _json(body: bytes, member: str) -> Iterator[Row]:
    try:
        parsed = from_json(body)
    except ValueError as error:
        raise RejectedMessage(str(error)) from error
    as_of = parsed.get("as_of") if isinstance(parsed, dict) else None
    rows = parsed.get(member) if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list):
        raise RejectedMessage("expected a list of rows", field=member)
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RejectedMessage("expected an object", field=f"{member}.{index}")
        yield f"{member}.{index}", ({"as_of": as_of} if as_of else {}) | row


def dated(where: str, as_of: datetime | None) -> datetime:
    if as_of is None:
        raise RejectedMessage("nothing says of which moment it is", field=f"{where}, as_of")
    return as_of
