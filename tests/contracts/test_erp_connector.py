"""What the gateway relies on, whichever ERP it talks to.

An implementation joins by a fixture that gives a `Bench` of its own, named in `bench`: how to reach a real
instance, make it refuse, make it lose its answer, and take it away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

import pytest
from msgspec import structs

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.models import FaultSettings
from adapters.simulated_erp.process import RunningErp, start
from canonical.errors import TransientFailure
from canonical.identity import PostingKey
from canonical.postings import Action, Command, PostPayment
from tests.erp.bench import tryton_bench
from tests.erp.premises import tryton, tryton_home, tryton_server
from twins.ports import Confirmed, ErpConnector, Refused

pytestmark = pytest.mark.live
__all__ = ["tryton", "tryton_bench", "tryton_home", "tryton_server"]
PAID = Command(
    Action.POST,
    1,
    PostPayment(
        key=PostingKey("payment/pay 1/ä&x=y"),
        event_date=date(2026, 3, 2),
        company="main",
        currency="USD",
        order_id="SO-1",
        payment_id="pay 1/ä&x=y",
        amount=Decimal("129.90"),
    ),
)
TIMEOUT_S = 1.0


class Bench(Protocol):
    """A real instance, and the means to trouble it."""

    @property
    def connector(self) -> ErpConnector: ...

    async def refuse(self, command: Command) -> None: ...

    async def lose_answers(self, *, hang: bool) -> None:
        """Post what is told, and drop the connection; *hang*: only after the connector lost patience."""
        ...

    async def answer_again(self) -> None: ...

    async def fail_before_posting(self) -> None: ...

    async def answer_with_error_after_posting(self) -> None: ...

    async def live_documents(self) -> int: ...

    async def posting_dates(self) -> list[date]: ...

    async def vanish(self) -> None: ...


@dataclass
class SimulatedBench:
    running: RunningErp
    connector: SimulatedErpConnector

    async def refuse(self, command: Command) -> None:
        await self.connector.misbehave(FaultSettings(refuse_keys=frozenset({command.key})))

    async def lose_answers(self, *, hang: bool) -> None:
        hang_s = 3 * TIMEOUT_S if hang else 0.0
        await self.connector.misbehave(FaultSettings(timeout_after_posting_rate=1.0, hang_s=hang_s))

    async def answer_again(self) -> None:
        await self.connector.misbehave(FaultSettings())

    async def fail_before_posting(self) -> None:
        await self.connector.misbehave(FaultSettings(fail_rate=1.0))

    async def answer_with_error_after_posting(self) -> None:
        await self.connector.misbehave(FaultSettings(forget_reply_rate=1.0))

    async def live_documents(self) -> int:
        return (await self.connector.live_documents()).total

    async def posting_dates(self) -> list[date]:
        return [document.posting_date async for document in self.connector.documents()]

    async def vanish(self) -> None:
        self.running.stop()


@dataclass
class Premises:
    """Where one process serves all tests, and is replaced after a test took it away."""

    tenant: RunningErp | None = None

    def occupied(self) -> RunningErp:
        if self.tenant is None or self.tenant.child.poll() is not None:
            self.tenant = start()
        return self.tenant


@pytest.fixture(scope="module")
def premises() -> Iterator[Premises]:
    found = Premises()
    yield found
    if found.tenant is not None:
        found.tenant.stop()


@pytest.fixture
async def simulated(premises: Premises) -> AsyncIterator[Bench]:
    running = premises.occupied()
    connector = SimulatedErpConnector(running.url, timeout_s=TIMEOUT_S)
    await connector.erase()
    yield SimulatedBench(running, connector)
    await connector.close()


@pytest.fixture(params=["simulated", "tryton_bench"], ids=["simulated", "tryton"])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


async def test_a_command_is_confirmed_with_the_number_of_its_document(bench: Bench) -> None:
    answer = await bench.connector.tell(PAID)
    assert isinstance(answer, Confirmed)
    assert answer.document
    assert await bench.connector.look_up(PAID.idempotency_key) == answer


async def test_a_reversal_is_a_document_of_its_own(bench: Bench) -> None:
    undo = structs.replace(PAID, action=Action.REVERSE)
    made = await bench.connector.tell(PAID)
    undone = await bench.connector.tell(undo)
    assert isinstance(undone, Confirmed)
    assert undone != made
    assert await bench.connector.look_up(undo.idempotency_key) == undone
    assert await bench.connector.look_up(PAID.idempotency_key) == made
    assert await bench.live_documents() == 0


async def test_a_refusal_is_a_value_that_says_why(bench: Bench) -> None:
    await bench.refuse(PAID)
    answer = await bench.connector.tell(PAID)
    assert isinstance(answer, Refused)
    assert answer.reason
    assert await bench.connector.look_up(PAID.idempotency_key) is None


async def test_a_document_is_posted_on_the_date_that_is_asked_for(bench: Bench) -> None:
    await bench.connector.tell(PAID, posting_date=date(2026, 4, 1))
    assert await bench.posting_dates() == [date(2026, 4, 1)]


async def test_a_document_is_otherwise_posted_on_its_event_date(bench: Bench) -> None:
    await bench.connector.tell(PAID)
    assert await bench.posting_dates() == [PAID.posting.event_date]


@pytest.mark.parametrize("hang", [False, True], ids=["connection dropped", "time-out"])
async def test_a_document_whose_answer_was_lost_is_found_by_looking_it_up(bench: Bench, hang: bool) -> None:
    await bench.lose_answers(hang=hang)
    with pytest.raises(TransientFailure):
        await bench.connector.tell(PAID)
    assert isinstance(await bench.connector.look_up(PAID.idempotency_key), Confirmed)
    assert await bench.live_documents() == 1, "the connector does not try again by itself"


async def test_an_error_after_posting_is_found_by_looking_it_up(bench: Bench) -> None:
    await bench.answer_with_error_after_posting()
    with pytest.raises(TransientFailure):
        await bench.connector.tell(PAID)
    assert isinstance(await bench.connector.look_up(PAID.idempotency_key), Confirmed)


async def test_a_failure_before_posting_leaves_nothing_and_passes(bench: Bench) -> None:
    await bench.fail_before_posting()
    with pytest.raises(TransientFailure):
        await bench.connector.tell(PAID)
    assert await bench.connector.look_up(PAID.idempotency_key) is None
    await bench.answer_again()
    assert isinstance(await bench.connector.tell(PAID), Confirmed)


async def test_the_same_command_told_twice_has_one_answer(bench: Bench) -> None:
    assert await bench.connector.tell(PAID) == await bench.connector.tell(PAID)
    assert await bench.live_documents() == 1


async def test_nothing_is_found_for_a_command_that_was_never_told(bench: Bench) -> None:
    assert await bench.connector.look_up(PAID.idempotency_key) is None


async def test_an_erp_that_is_down_is_a_transient_failure(bench: Bench) -> None:
    await bench.connector.tell(PAID)
    await bench.vanish()
    with pytest.raises(TransientFailure):
        await bench.connector.tell(PAID)
    with pytest.raises(TransientFailure):
        await bench.connector.look_up(PAID.idempotency_key)


async def test_closing_twice_is_harmless(bench: Bench) -> None:
    await bench.connector.tell(PAID)
    await bench.connector.close()
    await bench.connector.close()
