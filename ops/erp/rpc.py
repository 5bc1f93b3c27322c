"""Tryton's JSON-RPC, as far as setting up a company needs it: what REST does not do are its wizards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

Values = Mapping[str, Any]
Domain = Sequence[Any]


class RpcError(Exception):
    """Tryton did not do what it was asked."""


class Rpc:
    """One signed-in user. *context* goes with every call: whose books they are."""

    def __init__(self, url: str, user: str, password: str) -> None:
        """*url* is the database's: ``http://127.0.0.1:8000/erp``."""
        self._url = f"{url}/rpc/"
        self._http = httpx.Client(auth=(user, password), timeout=60.0)
        self.context: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Raises: RpcError."""
        body = {"id": 1, "method": method, "params": [*arguments, self.context]}
        answer = self._http.post(self._url, json=body)
        if not answer.is_success:
            raise RpcError(f"{method}: HTTP {answer.status_code}")
        read = answer.json()
        if "error" in read:
            raise RpcError(f"{method}: {read['error']}")
        return read["result"]

    def create(self, model: str, values: Values) -> int:
        (made,) = self.call(f"model.{model}.create", [values])
        return int(made)

    def write(self, model: str, ids: Sequence[int], values: Values) -> None:
        self.call(f"model.{model}.write", list(ids), values)

    def find(self, model: str, *domain: Domain) -> list[int]:
        return [int(found) for found in self.call(f"model.{model}.search", list(domain), 0, None, None)]

    def one(self, model: str, *domain: Domain) -> int:
        """Raises: RpcError unless there is exactly one."""
        found = self.find(model, *domain)
        if len(found) != 1:
            raise RpcError(f"{len(found)} of {model} where {domain}")
        return found[0]

    def read(self, model: str, id: int, *fields: str) -> dict[str, Any]:
        (found,) = self.call(f"model.{model}.read", [id], list(fields))
        return dict(found)

    def press(self, model: str, id: int, button: str) -> None:
        self.call(f"model.{model}.{button}", [id])

    def wizard(self, name: str, *steps: tuple[str, Values]) -> None:
        """Go through a wizard. Shape: of each step, the state to execute and what was filled in before."""
        session, _, _ = self.call(f"wizard.{name}.create")
        for state, filled_in in steps:
            self.call(f"wizard.{name}.execute", session, filled_in, state)
        self.call(f"wizard.{name}.delete", session)


def decimal(text: str) -> dict[str, str]:
    return {"__class__": "Decimal", "decimal": text}


def day(year: int, month: int, day: int) -> dict[str, Any]:
    return {"__class__": "date", "year": year, "month": month, "day": day}
