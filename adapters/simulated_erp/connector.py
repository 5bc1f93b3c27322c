"""twinsync's side of the simulated ERP: the connector, and the switches that demo and tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

import aiohttp
from pydantic import TypeAdapter, ValidationError

from adapters.simulated_erp.models import (
    DEFAULT_COMPANY,
    DOCUMENT,
    FAULT_REPORT,
    FAULT_SETTINGS,
    INSTRUCTION,
    LIVE_DOCUMENTS,
    PAGE,
    PERIOD_CLOSING,
    REVERSAL_BY_HAND,
    STANDARD_COSTS,
    STOCK,
    STOCK_OPENED,
    TAMPERING,
    TRIAL_BALANCE,
    Document,
    FaultReport,
    FaultSettings,
    Instruction,
    LiveDocuments,
    Page,
    PeriodClosing,
    ReversalByHand,
    StandardCosts,
    StockOpened,
    Tampering,
    TrialBalance,
)
from canonical.errors import TransientFailure
from canonical.postings import Command
from twins.ports import Confirmed, Refused

T = TypeVar("T")

_REFUSED = frozenset({400, 422})
_JSON = {"Content-Type": "application/json"}
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


class SimulatedErpConnector:
    """Implements ErpConnector. Belongs to the event loop that first uses it; connections are kept alive."""

    def __init__(self, url: str, *, timeout_s: float = 5.0, connections_max: int = 16) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._connections_max = connections_max
        self._session: aiohttp.ClientSession | None = None

    # --- the port

    async def tell(self, command: Command, *, posting_date: date | None = None) -> Confirmed | Refused:
        told = Instruction(
            idempotency_key=command.idempotency_key,
            action=command.action,
            version=command.version,
            posting=command.posting,
            posting_date=posting_date,
        )
        reply = await self._ask("POST", "/documents", body=INSTRUCTION.dump_json(told))
        if reply.status in _REFUSED:
            return Refused(_reason(reply.body))
        return Confirmed(_read(DOCUMENT, reply).number)

    async def look_up(self, idempotency_key: str) -> Confirmed | None:
        page = await self._page({"idempotency_key": idempotency_key, "limit": "1"})
        return Confirmed(page.documents[0].number) if page.documents else None

    async def reverse(self, document: str, idempotency_key: str) -> Confirmed | Refused:
        """Implements ErpCorrections."""
        body = REVERSAL_BY_HAND.dump_json(ReversalByHand(idempotency_key))
        reply = await self._ask("POST", f"/documents/{document}/reversal", body=body)
        if reply.status in _REFUSED:
            return Refused(_reason(reply.body))
        return Confirmed(_read(DOCUMENT, reply).number)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- what it holds

    async def trial_balance(self) -> TrialBalance:
        return _read(TRIAL_BALANCE, await self._ask("GET", "/trial-balance"))

    async def live_documents(self) -> LiveDocuments:
        return _read(LIVE_DOCUMENTS, await self._ask("GET", "/live-documents"))

    async def documents(self, *, live: bool | None = None) -> AsyncIterator[Document]:
        """In the order of posting. Raises: TransientFailure."""
        wanted = {"limit": str(_PAGE)} | ({} if live is None else {"live": str(live).lower()})
        while True:
            page = await self._page(wanted)
            for document in page.documents:
                yield document
            if page.following is None:
                return
            wanted["after"] = page.following

    async def stock(self) -> dict[str, dict[str, Decimal]]:
        """SKU → location → quantity on hand; empty where it keeps no stock."""
        return _read(STOCK, await self._ask("GET", "/stock"))

    # --- how it is set

    async def open_stock(self, quantities: dict[str, dict[str, Decimal]]) -> None:
        await self._set("/stock", STOCK_OPENED.dump_json(StockOpened(quantities)))

    async def tamper(self, what: Tampering) -> None:
        """Raises: ValueError where there is no such document."""
        await self._set("/tampering", TAMPERING.dump_json(what))

    async def misbehave(self, settings: FaultSettings) -> None:
        """Replace the faults; `FaultSettings()` ends them."""
        await self._set("/faults", FAULT_SETTINGS.dump_json(settings))

    async def faults(self) -> FaultReport:
        return _read(FAULT_REPORT, await self._ask("GET", "/faults"))

    async def set_standard_costs(self, costs: Mapping[str, Decimal]) -> None:
        await self._set("/standard-costs", STANDARD_COSTS.dump_json(StandardCosts(dict(costs))))

    async def close_period(self, closed_through: date, company: str = DEFAULT_COMPANY) -> None:
        await self._set("/periods", PERIOD_CLOSING.dump_json(PeriodClosing(closed_through, company)))

    async def erase(self) -> None:
        """Make it as if new: books, costs, periods and faults."""
        _done(await self._ask("DELETE", "/"))

    # --- how it is asked

    async def _set(self, path: str, body: bytes) -> None:
        _done(await self._ask("POST", path, body=body))

    async def _page(self, wanted: Mapping[str, str]) -> Page:
        return _read(PAGE, await self._ask("GET", "/documents", query=wanted))

    async def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> _Reply:
        """Raises: TransientFailure where no answer came."""
        session = self._opened()
        try:
            async with session.request(
                method, self._url + path, params=query, data=body, headers=_JSON
            ) as response:
                return _Reply(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientFailure(f"the ERP did not answer: {type(error).__name__} {error}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections_max), timeout=self._timeout
            )
        return self._session


def _done(reply: _Reply) -> None:
    """Raises: TransientFailure, ValueError for settings that the ERP does not understand."""
    if reply.status in _REFUSED:
        raise ValueError(_reason(reply.body))
    if not 200 <= reply.status < 300:
        raise TransientFailure(f"the ERP answered {reply.status}")


def _read(adapter: TypeAdapter[T], reply: _Reply) -> T:
    """Raises: TransientFailure where it is no answer: whether the ERP took it is not known."""
    _done(reply)
    try:
        return adapter.validate_json(reply.body)
    except ValidationError as error:
        raise TransientFailure(
            f"the ERP answered {reply.status} with something else than it should"
        ) from error


def _reason(problem: bytes) -> str:
    try:
        found = _PROBLEM.validate_json(problem)
    except ValidationError:
        return problem.decode(errors="replace")[:200]
    return f"{found.title}: {found.detail}"


@dataclass(frozen=True, slots=True)
class _Problem:
    title: str
    detail: str


_PROBLEM: TypeAdapter[_Problem] = TypeAdapter(_Problem)
