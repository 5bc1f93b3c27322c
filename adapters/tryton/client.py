"""Tryton's REST interface: each call is a transaction of its own. What is sent, and what failures mean."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import httpx

from canonical.errors import TransientFailure

Row = dict[str, Any]
"""Field → value; fields of a related record are nested below its name."""
Domain = Sequence[Any]
_PAGE = 1_000
_REFUSED = frozenset({400, 422})
_FORBIDDEN = frozenset({401, 403})


class Objection(Exception):
    """Tryton, or its master data, will not have it: a business refusal on its way to becoming a value."""


class TrytonClient:
    """Belongs to the event loop that first uses it; connections are kept alive.

    It sends nothing twice: HTTP libraries that repeat a PUT after a dropped connection will not do here.
    Every call raises Objection where Tryton objects, and TransientFailure where it is not known what it did:
    also where it refuses our key, since nothing may be lost while somebody mends that.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, connections_max: int) -> None:
        self._url = f"{url.rstrip('/')}/rest/model"
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            timeout=httpx.Timeout(timeout_s, pool=None),
            limits=httpx.Limits(max_connections=connections_max),
        )

    async def search(
        self,
        model: str,
        domain: Domain,
        *fields: str,
        context: Mapping[str, Any] | None = None,
    ) -> list[Row]:
        """Every record that fits, ascending by id."""
        return [row async for row in self.each(model, domain, *fields, context=context)]

    async def each(
        self, model: str, domain: Domain, *fields: str, context: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Row]:
        """The same, a page at a time."""
        last = 0
        while True:
            query = [("f", field) for field in fields]
            query += [("d", _packed([["id", ">", last], *domain])), ("o", _packed([["id", "ASC"]]))]
            page = await self._ask("GET", model, query=[*query, ("s", str(_PAGE))], context=context)
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            last = page[-1]["id"]

    async def create(self, model: str, values: Mapping[str, Any], *fields: str, company: int) -> Row:
        return await self._record("POST", model, values, fields, company)

    async def update(self, model: str, id: int, values: Mapping[str, Any], *fields: str, company: int) -> Row:
        return await self._record("PUT", f"{model}/{id}", values, fields, company)

    async def act(self, model: str, id: int, action: str, *fields: str, company: int) -> Row:
        """Press a button of a record."""
        return await self._record("POST", f"{model}/{id}/{action}", {}, fields, company)

    async def delete(self, model: str, id: int, *, company: int) -> None:
        await self._ask("DELETE", f"{model}/{id}", context={"company": company})

    async def close(self) -> None:
        await self._http.aclose()

    async def _record(
        self, method: str, path: str, values: Mapping[str, Any], fields: Sequence[str], company: int
    ) -> Row:
        query = [("f", field) for field in fields]
        row: Row = await self._ask(method, path, query=query, body=values, context={"company": company})
        return row

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            answer = await self._http.request(
                method,
                f"{self._url}/{path}",
                params=list(query),
                content=None if body is None else json.dumps(body, default=_encoded),
                headers={"X-Tryton-Context": _packed({"_skip_warnings": True, **(context or {})})},
            )
        except httpx.TransportError as error:
            raise TransientFailure(f"Tryton did not answer: {type(error).__name__} {error}") from error
        if method == "GET" and answer.status_code in _REFUSED:
            raise TransientFailure(f"Tryton will not be asked for {path}: {_reason(answer.content)}")
        return _read(answer.status_code, answer.content, path)


def _read(status: int, body: bytes, path: str) -> Any:
    if status in _REFUSED:
        raise Objection(_reason(body))
    if status in _FORBIDDEN:
        raise TransientFailure(f"Tryton refuses our key for {path} ({status}): check the user application")
    if not 200 <= status < 300:
        raise TransientFailure(f"Tryton answered {status} to {path}")
    try:
        return json.loads(body, object_hook=_decoded) if body else None
    except ValueError as error:
        raise TransientFailure(f"Tryton answered {path} with something else than JSON") from error


def _reason(body: bytes) -> str:
    try:
        told = json.loads(body)
        return " ".join(filter(None, (told["message"], told["description"])))
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


def _packed(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value, default=_encoded).encode()).decode()


def _encoded(value: object) -> Any:
    match value:
        case Decimal():
            return {"__class__": "Decimal", "decimal": str(value)}
        case date():
            return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
        case _:
            raise TypeError(f"{type(value).__name__} does not go over Tryton's wire")


def _decoded(found: Row) -> Any:
    match found.get("__class__"):
        case "Decimal":
            return Decimal(found["decimal"])
        case "date":
            return date(found["year"], found["month"], found["day"])
        case _:
            return found
