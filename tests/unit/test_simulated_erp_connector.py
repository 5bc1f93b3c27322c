"""What the connector gives beyond its port; the port itself is a contract (tests/contracts)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.simulated_erp import connector as module
from adapters.simulated_erp.books import Books
from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.models import FaultSettings
from adapters.simulated_erp.server import SimulatedErp
from canonical.errors import TransientFailure
from canonical.postings import Account, Action, Command
from tests.unit.test_simulated_erp_books import issue
from twins.ports import Refused


@pytest.fixture
async def connector() -> AsyncIterator[SimulatedErpConnector]:
    async with TestServer(SimulatedErp(Books()).application()) as server:
        opened = SimulatedErpConnector(str(server.make_url("")))
        yield opened
        await opened.close()


def shipped(number: int, cost: str | None = "8") -> Command:
    return Command(Action.POST, 1, issue(f"SHP-{number}", 1, cost))


async def test_documents_are_read_over_all_pages(
    connector: SimulatedErpConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    for number in range(5):
        await connector.tell(shipped(number))
    await connector.tell(Command(Action.REVERSE, 1, shipped(3).posting))
    live = [one.posting_key async for one in connector.documents(live=True)]
    assert live == [f"goods-issue/SHP-{number}" for number in (0, 1, 2, 4)]
    assert len([one async for one in connector.documents()]) == 6


async def test_the_trial_balance_is_exact(connector: SimulatedErpConnector) -> None:
    for number in range(10):
        await connector.tell(shipped(number, "0.10"))
    assert (await connector.trial_balance()).of(Account.COST_INTERIM) == (Decimal("1.00"), Decimal(0))


async def test_costs_periods_and_faults_can_be_set(connector: SimulatedErpConnector) -> None:
    await connector.set_standard_costs({"SKU-1": Decimal("7.77")})
    await connector.tell(shipped(1, None))
    assert (await connector.trial_balance()).of(Account.COST_INTERIM) == (Decimal("7.77"), Decimal(0))
    await connector.close_period(date(2026, 3, 31))
    assert isinstance(await connector.tell(shipped(2)), Refused)
    await connector.misbehave(FaultSettings(fail_rate=1.0))
    with pytest.raises(TransientFailure, match="503"):
        await connector.tell(shipped(2))
    assert (await connector.faults()).dealt["fail"] == 1


async def test_settings_that_make_no_sense_are_the_callers_fault(connector: SimulatedErpConnector) -> None:
    with pytest.raises(ValueError, match="at most one fault"):
        await connector.misbehave(FaultSettings(fail_rate=0.6, forget_reply_rate=0.6))


async def test_an_answer_that_is_not_the_erps_leaves_it_open_whether_it_was_posted() -> None:
    async def portal(request: web.Request) -> web.Response:
        return web.Response(text="<html>Please log in</html>")

    application = web.Application()
    application.router.add_route("*", "/{any:.*}", portal)
    async with TestServer(application) as server:
        connector = SimulatedErpConnector(str(server.make_url("")))
        with pytest.raises(TransientFailure):
            await connector.tell(shipped(1))
        with pytest.raises(TransientFailure):
            await connector.look_up(shipped(1).idempotency_key)
        await connector.close()


async def test_a_closed_connector_opens_again_when_it_is_used(connector: SimulatedErpConnector) -> None:
    await connector.tell(shipped(1))
    await connector.close()
    assert await connector.look_up(shipped(1).idempotency_key)
