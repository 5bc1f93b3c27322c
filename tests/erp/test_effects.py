"""What each posting does to the books of a real Tryton, read back from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from adapters.tryton.books import TrytonBooks
from adapters.tryton.connector import NOT_BOOKED, TrytonConnector
from canonical.money import ZERO
from canonical.postings import Account, Action, Command, Entry, Posting, ReserveStock, entries
from tests.erp.postings import (
    D,
    adjustment,
    every,
    goods_issue,
    invoice,
    payment,
    return_receipt,
    transfer,
)
from twins.ports import Confirmed, HeldDocument, Refused

pytestmark = pytest.mark.live


def post(posting: Posting, version: int = 1) -> Command:
    return Command(Action.POST, version, posting)


def reverse(posting: Posting, version: int = 1) -> Command:
    return Command(Action.REVERSE, version, posting)


def by_role(made: Iterable[Entry]) -> dict[Account, Decimal]:
    found: dict[Account, Decimal] = {}
    for entry in made:
        found[entry.account] = found.get(entry.account, ZERO) + entry.debit - entry.credit
    return {role: amount for role, amount in found.items() if amount}


async def held(books: TrytonBooks) -> dict[str, HeldDocument]:
    suffix = {Action.POST: "", Action.REVERSE: "/reverse"}
    return {f"{one.posting_key}@{one.version}{suffix[one.action]}": one async for one in books.documents()}


async def net(books: TrytonBooks) -> dict[Account, Decimal]:
    balances = await books.balances()
    return {role: one.debit - one.credit for role, one in balances.items() if one.debit != one.credit}


async def test_every_posting_is_booked_as_its_entries_say_and_its_reversal_as_their_mirror(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    opening, on_hand = await net(books), await books.stock()
    assert opening == {Account.INVENTORY: D("800.00")}
    postings = every()
    for posting in postings:
        answer = await connector.tell(post(posting))
        assert isinstance(answer, Confirmed), (posting.key, answer)
    found = await held(books)
    booked = [posting for posting in postings if not isinstance(posting, ReserveStock)]
    assert {key: one.amounts for key, one in found.items()} == {
        f"{posting.key}@1": by_role(entries(posting)) for posting in booked
    }
    assert all(one.live for one in found.values())
    for posting in reversed(postings):
        answer = await connector.tell(reverse(posting))
        assert isinstance(answer, Confirmed), (posting.key, answer)
    found = await held(books)
    for posting in booked:
        mirrored = {role: -amount for role, amount in by_role(entries(posting)).items()}
        assert found[f"{posting.key}@1/reverse"].amounts == mirrored
    assert not any(one.live for one in found.values())
    assert await net(books) == opening
    assert await books.stock() == on_hand


@pytest.mark.parametrize(
    ("posting", "moved"),
    [
        (goods_issue(), {("SKU-1", "DC-01"): -6}),
        (
            return_receipt(sellable=(1, "8.00"), damaged=(2, "16.00"), scrap=(3, "24.00")),
            {("SKU-1", "DC-01"): 3},
        ),
        (adjustment(-4, "-32.00"), {("SKU-1", "DC-01"): -4}),
        (transfer("out", "DC-01"), {("SKU-1", "DC-01"): -5}),
        (transfer("in", "DC-02"), {("SKU-1", "DC-02"): 5}),
        (invoice(), {}),
    ],
    ids=lambda one: one.command if hasattr(one, "command") else "",
)
async def test_goods_move_where_the_posting_says(
    connector: TrytonConnector, books: TrytonBooks, posting: Posting, moved: Mapping[tuple[str, str], int]
) -> None:
    before = await books.stock()
    assert isinstance(await connector.tell(post(posting)), Confirmed)
    after = await books.stock()
    places = before.keys() | after.keys()
    changed = {place: after.get(place, ZERO) - before.get(place, ZERO) for place in places}
    assert {place: change for place, change in changed.items() if change} == moved


async def test_a_cost_that_is_not_trytons_own_is_booked_to_the_cent_all_the_same(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    """Tryton values 6 pieces at 48.00; the journal settles what is missing to 50.01."""
    issue, billed = goods_issue(cost="50.01"), invoice(cost="50.01")
    for posting in (issue, billed):
        await connector.tell(post(posting))
    found = await held(books)
    assert found[f"{issue.key}@1"].amounts == by_role(entries(issue))
    assert found[f"{billed.key}@1"].amounts == by_role(entries(billed))


async def test_goods_whose_cost_is_left_open_are_booked_at_trytons(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    for posting in (goods_issue(cost=None), invoice(cost=None)):
        await connector.tell(post(posting))
    interim = (await books.balances())[Account.COST_INTERIM]
    assert (interim.debit, interim.credit) == (D("48.00"), D("48.00"))


async def test_a_price_without_an_end_is_invoiced_to_the_cent(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    """100.00 for 300 pieces: 0.3333 each leaves a cent."""
    whole = invoice(quantity=300, cost="2400.00")
    line = replace(whole.lines[0], net=D("100.00"), tax=D("8.25"))
    await connector.tell(post(replace(whole, lines=(line,))))
    assert (await books.balances())[Account.REVENUE].credit == D("100.00")


async def test_an_invoice_is_posted_anew_after_its_reversal(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    told = [post(goods_issue()), post(invoice()), reverse(invoice()), post(invoice(freight="9.00"), 2)]
    for command in told:
        assert isinstance(await connector.tell(command), Confirmed)
    found = await held(books)
    live = {key for key, one in found.items() if one.live}
    assert live == {"goods-issue/SHP-1@1", "invoice/SHP-1/SO-1@2"}
    assert found["invoice/SHP-1/SO-1@2"].amounts == by_role(entries(invoice(freight="9.00")))
    assert Account.COST_INTERIM not in await net(books)


async def test_a_reservation_is_confirmed_and_booked_nowhere(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    assert await connector.tell(post(every()[0])) == Confirmed(NOT_BOOKED)
    assert not await held(books)


async def test_what_happened_in_a_closed_period_is_booked_later_and_keeps_its_date(
    connector: TrytonConnector,
) -> None:
    await connector.tell(post(invoice()), posting_date=date(2026, 4, 1))
    (found,) = await connector._client.search(
        "account.invoice", [["type", "=", "out"]], "description", "move.date"
    )
    assert found["move"]["date"] == date(2026, 4, 1)
    assert "2026-03-02" in found["description"]


async def test_an_invoice_of_an_earlier_day_is_taken_after_one_of_a_later_day(
    connector: TrytonConnector,
) -> None:
    """Tryton's invoice numbers must ascend with the day of issue; facts come late."""
    for number, day in enumerate((date(2026, 3, 3), date(2026, 3, 2)), start=1):
        told = post(replace(invoice(f"SHP-{number}"), event_date=day))
        assert isinstance(await connector.tell(told), Confirmed)


@pytest.mark.parametrize(
    ("posting", "named"),
    [
        (replace(goods_issue(), lines=(replace(goods_issue().lines[0], sku="SKU-9"),)), "SKU 'SKU-9'"),
        (replace(goods_issue(), lines=(replace(goods_issue().lines[0], location="DC-9"),)), "'DC-9'"),
        (replace(payment(), company="elsewhere"), "'elsewhere'"),
        (replace(payment(), currency="EUR"), "EUR"),
        (replace(payment(), event_date=date(1999, 1, 1)), "1999-01-01"),
        (replace(every()[4], carrier="nobody"), "'nobody'"),
    ],
    ids=["SKU", "location", "company", "currency", "period", "carrier"],
)
async def test_what_tryton_does_not_know_is_refused_by_name(
    connector: TrytonConnector, books: TrytonBooks, posting: Posting, named: str
) -> None:
    answer = await connector.tell(post(posting))
    assert isinstance(answer, Refused)
    assert named in answer.reason
    assert not await held(books)


async def test_a_customer_that_tryton_does_not_know_is_a_walk_in_one(connector: TrytonConnector) -> None:
    await connector.tell(post(replace(invoice(), customer_id="somebody")))
    (found,) = await connector._client.search("account.invoice", [["type", "=", "out"]], "party.code")
    assert found["party"]["code"] == "WALK-IN"


async def test_what_came_to_nothing_is_taken_back_by_nothing(
    connector: TrytonConnector, books: TrytonBooks
) -> None:
    """Its next version would wait for it for ever."""
    nothing = replace(payment(), amount=D("0.00"))
    assert await connector.tell(post(nothing)) == Confirmed(NOT_BOOKED)
    assert await connector.tell(reverse(nothing)) == Confirmed(NOT_BOOKED)
    assert not await held(books)
    assert isinstance(await connector.tell(post(payment(), 2)), Confirmed)
    assert list(await held(books)) == [f"{payment().key}@2"]


async def test_what_was_never_posted_cannot_be_reversed(connector: TrytonConnector) -> None:
    answer = await connector.tell(reverse(payment()))
    assert isinstance(answer, Refused)
    assert payment().key in answer.reason
