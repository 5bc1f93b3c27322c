"""What holds after each event, in whatever order they come; the numbers are those of the domain reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, count, pairwise
from random import Random
from typing import Any, TypeGuard

from hypothesis import given

from canonical.envelope import Event
from canonical.facts.base import Fact, Retracted
from canonical.facts.erp import PostingAnnulled, PostingRejected, PostingResent
from canonical.facts.reference import ItemUpserted
from canonical.facts.stock import StockAdjusted, StockCounted, StockReceived
from canonical.facts.tracking import CarrierBilled
from canonical.identity import Kind, PostingKey, TwinRef, item, order, stock
from canonical.money import rounded
from canonical.postings import (
    Account,
    AccrueFreight,
    Action,
    MatchCarrierBill,
    PostCreditNote,
    PostGoodsIssue,
    Posting,
    PostInvoice,
    PostReturnReceipt,
    ReserveStock,
    entries,
    owner,
)
from tests.properties.compared import live
from tests.properties.generated import (
    ABOUT,
    PLACES,
    SKUS,
    arbitrary,
    generated,
    histories,
    histories_of,
    seeds,
    sort,
    standing,
)
from tests.world import DAY, World
from twins.core.contributions import Cost, ItemCard
from twins.core.dispatch import QueuedCommand, decide
from twins.core.ledger import Status
from twins.core.order import OrderView
from twins.core.rules import Policy
from twins.core.twin import Twin

ZERO = Decimal(0)


def each_prefix(events: Sequence[Event], seed: int) -> Any:
    """The world after each event of one order of arrival; now and then the ERP answers."""
    random, world = Random(seed), World()
    for event in random.sample(events, k=len(events)):
        effects = world.take([event])
        yield world, [world.twins[ref] for ref in effects.touched]
        if random.random() < 0.3:
            world.confirm()
            yield world, list(world.twins.values())


def orders_in(twins: Sequence[Twin]) -> list[tuple[TwinRef, OrderView]]:
    return [(twin.ref, twin.snapshot().view) for twin in twins if twin.ref.kind is Kind.ORDER]


# --- 2: quantities and money -----------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_quantities_and_money_keep_their_bounds(events: list[Event], seed: int) -> None:
    """0 ≤ returned ≤ shipped ≤ ordered − cancelled + tolerance; invoiced ≤ shipped; credited ≤ invoiced."""
    for world, changed in each_prefix(events, seed):
        for ref, _ in orders_in(changed):
            for line in world.twins[ref].snapshot().document()["lines"]:
                assert_bounds(line)


def assert_bounds(line: Mapping[str, Any]) -> None:
    most = line["ordered"] * (1 + Policy().over_ship_tolerance)
    assert 0 <= line["returned"] <= line["shipped"] <= most - line["cancelled"]
    assert 0 <= line["cancelled"] <= line["ordered"]
    assert 0 <= line["invoiced"] <= line["shipped"]
    assert 0 <= line["credited"] <= line["invoiced"]
    assert line["credited"] <= line["accepted"] <= line["shipped"]
    assert 0 <= line["delivered"] <= line["shipped"]
    assert 0 <= line["backordered"] <= line["open"]
    assert 0 <= line["open"] <= line["ordered"] - line["cancelled"]


# --- 1, 3: documents -------------------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_the_ledger_holds_what_the_facts_justify_and_each_document_once(
    events: list[Event], seed: int
) -> None:
    """At rest the net is what is desired; what is not there yet waits for what it needs now, no other."""
    for world, changed in each_prefix(events, seed):
        held, statuses = live(world.twins), statuses_of(world.twins.values())
        for twin in changed:
            desired = twin.rules.postings(twin.ref, twin.snapshot().view)
            assert twin.live_postings() == dict(desired)
            assert {owner(posting) for posting in desired.values()} <= {twin.ref}
            for key, posting in desired.items():
                if statuses[key] is Status.QUEUED:
                    assert held[key].requires == posting.requires


@generated()
@given(arbitrary, seeds)
def test_an_invoice_stands_on_a_confirmed_goods_issue(events: list[Event], seed: int) -> None:
    """Goods issue before invoice: of the same goods, and once the ERP has answered, confirmed."""
    for world, _ in each_prefix(events, seed):
        held, statuses = live(world.twins), statuses_of(world.twins.values())
        for key, posting in held.items():
            if isinstance(posting, PostInvoice):
                issue = held[PostingKey(f"goods-issue/{posting.shipment_id}")]
                assert posting.freight >= 0
                assert posting.requires == (issue.key,)
                assert goods_of(issue, posting.order_id) == goods_of(posting, posting.order_id)
                if not world.commands:
                    assert statuses[issue.key] is statuses[key] is Status.CONFIRMED


def goods_of(posting: Posting, order_id: str) -> dict[tuple[str, str], Decimal]:
    if isinstance(posting, PostInvoice):
        return {(line.line_id, line.sku): line.quantity for line in posting.lines}
    return {
        (line.line_id.removeprefix(f"{order_id}/"), line.sku): line.quantity
        for line in posting.lines
        if line.line_id.startswith(f"{order_id}/")
    }


def statuses_of(twins: Any) -> dict[PostingKey, Status]:
    return {record.key: record.status for twin in twins for record in twin.ledger}


@dataclass
class Gateway:
    """Tells an ERP that takes everything what may be told, and sees to it that nothing comes out of turn."""

    world: World
    queue: list[QueuedCommand] = field(default_factory=list)
    documents: dict[PostingKey, Posting] = field(default_factory=dict)
    """What the ERP holds."""
    _numbers: Iterator[int] = field(default_factory=count)

    def drain(self) -> None:
        """Go on until all that is left waits for something."""
        while True:
            for ref, command in self.world.commands:
                self.queue.append(QueuedCommand(next(self._numbers), ref, command, sent=False))
            self.world.commands = []
            decided = decide(self.queue, self._statuses())
            replies = [self._annulled(post) for post, _ in decided.annul]
            replies += [self._tell(one) for one in decided.send]
            done = {*chain.from_iterable(decided.annul), *decided.drop, *decided.send}
            self.queue = [one for one in self.queue if one not in done]
            if not done:
                return
            self.world.take(replies)

    def _statuses(self) -> dict[tuple[PostingKey, int], Status]:
        records = chain.from_iterable(twin.ledger for twin in self.world.twins.values())
        return {(record.key, record.version): record.status for record in records}

    def _tell(self, one: QueuedCommand) -> Event:
        command = one.command
        if command.action is Action.POST:
            assert command.key not in self.documents, f"{command.key} is there already"
            self.documents[command.key] = command.posting
        else:
            assert self.documents.pop(command.key) == command.posting
        for posting in self.documents.values():
            if isinstance(posting, PostInvoice):
                assert f"goods-issue/{posting.shipment_id}" in self.documents, (
                    f"{posting.key} hangs in the air"
                )
        return self.world._confirmed(one.owner, command)

    def _annulled(self, one: QueuedCommand) -> Event:
        fact = PostingAnnulled(posting_key=one.command.key, version=one.command.version)
        return Event("/erp/main", f"{one.command.idempotency_key}/annulled", one.owner, DAY, fact)


@generated()
@given(arbitrary, seeds)
def test_an_erp_that_answers_holds_in_the_end_what_is_desired(events: list[Event], seed: int) -> None:
    """Goods issue before invoice, invoice reversed before goods issue; what waits, waits for what is not."""
    random, gateway = Random(seed), Gateway(World())
    for event in random.sample(events, k=len(events)):
        gateway.world.take([event])
        if random.random() < 0.3:
            gateway.drain()
    gateway.drain()
    held, waiting = live(gateway.world.twins), set[PostingKey]()
    for one in gateway.queue:
        posting = one.command.posting
        assert one.command.action is Action.POST
        assert any(key not in held for key in needs(posting, gateway.queue)), (
            f"{posting.key} waits for nothing"
        )
        waiting.add(posting.key)
    assert gateway.documents == {key: posting for key, posting in held.items() if key not in waiting}


@dataclass
class Refusing(Gateway):
    """Refuses some commands, which people have told again, out of turn and more than once."""

    random: Random = field(default_factory=Random)
    rate: float = 0.4

    def _tell(self, one: QueuedCommand) -> Event:
        if self.random.random() >= self.rate:
            return super()._tell(one)
        command = one.command
        named = {"posting_key": command.key, "version": command.version, "action": command.action.value}
        words = [
            PostingResent(again=command.again, request=str(request), by="ann", **named)
            for request in range(self.random.randrange(1, 3))
        ]
        refusal: Fact = PostingRejected(again=command.again, reason="no", **named)
        told = [refusal, *words, *words[:1]]
        self.random.shuffle(told)
        events = [Event("/erp", f"{command.idempotency_key}/{fact!r}", one.owner, DAY, fact) for fact in told]
        self.world.take_each(events[:-1])
        return events[-1]


@generated(0.5)
@given(arbitrary, seeds)
def test_what_was_refused_and_told_again_ends_as_if_it_never_was_refused(
    events: list[Event], seed: int
) -> None:
    """Refusal and resend in any order and number; then the ERP has what it has when it refuses nothing."""
    random, refused = Random(seed), Refusing(World(), random=Random(seed))
    for event in random.sample(events, k=len(events)):
        refused.world.take([event])
        if random.random() < 0.3:
            refused.drain()
    refused.rate = 0.0
    refused.drain()
    straight = Gateway(World())
    straight.world.take(events)
    straight.drain()
    assert refused.documents == straight.documents
    assert not any(twin.ledger.refused for twin in refused.world.twins.values())


def needs(posting: Posting, queue: Sequence[QueuedCommand]) -> set[PostingKey]:
    """What it requires, and what that requires in turn."""
    required = set(posting.requires)
    for one in queue:
        if one.command.key in posting.requires:
            required |= needs(one.command.posting, queue)
    return required


# --- 6: money balances -----------------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_debits_equal_credits_and_interim_accounts_are_empty(events: list[Event], seed: int) -> None:
    """An invoice clears what its goods issue put there, a credit note what its receipt did, to the cent.

    In each currency by itself.
    """
    for world, _ in each_prefix(events, seed):
        interim = Counter[tuple[Account, str]]()
        for posting in live(world.twins).values():
            sides = entries(posting)
            assert sum(one.debit for one in sides) == sum(one.credit for one in sides)
            assert all((one.debit > 0) is not (one.credit > 0) for one in sides)
            for one in sides if values_all_goods(posting, live(world.twins)) else ():
                interim[one.account, posting.currency] += one.debit - one.credit
        for account, currency in interim:
            if account in (Account.COST_INTERIM, Account.RETURN_INTERIM):
                assert interim[account, currency] == 0


def values_all_goods(posting: Posting, held: Mapping[PostingKey, Posting]) -> bool:
    """Whether a return's goods carry their cost; those that do not are valued by the ERP."""
    key = (
        f"credit-note/{posting.return_id}/{posting.line_id}/{posting.order_id}" if is_return(posting) else ""
    )
    credit = held.get(PostingKey(key))
    return not is_return(posting) or (isinstance(credit, PostCreditNote) and credit.cost is not None)


def is_return(posting: Posting) -> TypeGuard[PostReturnReceipt | PostCreditNote]:
    return isinstance(posting, PostReturnReceipt | PostCreditNote)


@generated()
@given(arbitrary, seeds)
def test_what_ships_has_its_price_and_credits_give_back_no_more(events: list[Event], seed: int) -> None:
    """Freight, its tax and each line's tax are divided over invoices; credit notes give back no more."""
    for world, changed in each_prefix(events, seed):
        held = live(world.twins).values()
        for ref, seen in orders_in(changed):
            invoices = [one for one in held if isinstance(one, PostInvoice) and one.order_id == ref.key]
            placed, told = seen.state.placed, seen.state.freight
            if placed is None:
                continue
            freight = placed.freight if told is None else told
            assert sum(one.freight for one in invoices) <= freight
            for line_id in seen.lines:
                parts = [line for one in invoices for line in one.lines if line.line_id == line_id]
                credits = [
                    one
                    for one in held
                    if isinstance(one, PostCreditNote) and (one.order_id, one.line_id) == (ref.key, line_id)
                ]
                assert all(part.net > 0 and part.tax >= 0 for part in parts), "goods were given away"
                assert sum(one.net for one in credits) <= sum(part.net for part in parts)
                assert sum(one.tax for one in credits) <= sum(part.tax for part in parts)
                assert sum(one.quantity for one in credits) <= sum(part.quantity for part in parts)


@generated()
@given(arbitrary, seeds)
def test_amounts_of_two_currencies_are_never_added(events: list[Event], seed: int) -> None:
    """What an order has been paid, and what goods cost, is told in the currency of its document, or shown."""
    world = World().take_each(Random(seed).sample(events, k=len(events)))
    for ref, seen in orders_in(list(world.twins.values())):
        document, shown = world.snapshot(str(ref)).document(), events_shown(world, ref)
        moved = [(1, one) for one in seen.state.captured.values()]
        moved += [(-1, one) for one in seen.state.refunded.values()]
        payment = document["payment"]
        net: dict[str, Decimal] = {}
        for sign, money in moved:
            net[money.currency] = net.get(money.currency, ZERO) + sign * money.amount
        assert payment["captured"] - payment["refunded"] == net.get(seen.currency, ZERO)
        for _, money in moved:
            if money.currency != seen.currency and net[money.currency]:
                assert document["status"] != "closed"
                assert shown >= set(money.witnesses)
    for posting in live(world.twins).values():
        if isinstance(posting, PostGoodsIssue):
            assert_costs_are_in_its_currency(world, posting)


def events_shown(world: World, ref: TwinRef) -> set[str]:
    found = world.snapshot(str(ref)).findings
    return {event for one in found if one.code == "other-currency" for event in one.events}


def assert_costs_are_in_its_currency(world: World, issue: PostGoodsIssue) -> None:
    """Each line has a cost told in the currency of the issue and of its order, or none, and what is for an
    order in another is shown.
    """
    ref = TwinRef(Kind.SHIPMENT, issue.shipment_id)
    at = world.snapshot(str(ref)).view.state.dispatched_at
    for line in issue.lines:
        sold = world.snapshot(f"order/{line.line_id.partition('/')[0]}").view.currency
        told = world.twins[item(line.sku)].snapshot().view.state.costs
        cost = ItemCard(told).cost(at)
        if cost is None or cost.amount is None:
            assert line.cost is None
        elif sold == issue.currency and cost.currency in (None, issue.currency):
            assert line.cost == rounded(cost.amount * line.quantity, issue.currency)
        else:
            assert line.cost is None
            assert sold == issue.currency or events_shown(world, ref)


@generated()
@given(histories_of(Kind.ITEM), seeds)
def test_the_cost_of_an_item_is_what_the_newest_revision_of_that_moment_says(
    events: list[Event], seed: int
) -> None:
    """However often a revision repeats a cost, and whatever an older one says later."""
    world = World().take_each(Random(seed).sample(events, k=len(events)))
    told = [one for one in in_order(standing(events)) if isinstance(one.fact, ItemUpserted)]
    costs = [Cost(one.time, one.fact.revision, one.fact.unit_cost, one.fact.currency) for one in told]
    held = world.snapshot("item/A").view.state.costs if told else ()
    for moment in {one.time for one in told}:
        found, expected = ItemCard(held).cost(moment), ItemCard(tuple(costs)).cost(moment)
        assert found is not None
        assert expected is not None
        assert found[2:] == expected[2:]
    assert all(before[2:] != after[2:] for before, after in pairwise(held))


# --- 6: what carriers bill -------------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_each_bill_is_matched_at_most_once_and_what_is_matched_clears_the_accrual(
    events: list[Event], seed: int
) -> None:
    """However many shipments share its number; what is not matched is shown; currencies are never added."""
    world = World().take_each(Random(seed).sample(events, k=len(events)))
    held, told = live(world.twins).values(), first_tellings(standing(events))
    matches = [one for one in held if isinstance(one, MatchCarrierBill)]
    for bill_id, currency in {(one.bill_id, one.currency) for one in matches}:
        lines = [one.amount for one, _, _ in told if (one.bill_id, one.currency) == (bill_id, currency)]
        posted = sum(one.amount for one in matches if (one.bill_id, one.currency) == (bill_id, currency))
        most, least = (sum((one for one in lines if (one > 0) is above), ZERO) for above in (True, False))
        assert least <= posted <= most, f"{bill_id} is posted with {posted} of {lines}"
    for accrual in held:
        if isinstance(accrual, AccrueFreight):
            mine = [one for one in matches if one.shipment_id == accrual.shipment_id]
            off = sum(one.amount for one in mine) - accrual.amount
            assert all(one.currency == accrual.currency for one in mine)
            assert not mine or sum(one.accrued for one in mine) == accrual.amount
            assert not mine or abs(off) <= accrual.amount * Policy().carrier_bill_tolerance
    assert_bills_are_matched_or_shown(world, told, matches)


Billed = tuple[CarrierBilled, TwinRef, list[str]]


def first_tellings(events: Sequence[Event]) -> list[Billed]:
    """Each bill of each number: the first telling is believed, the others are its witnesses."""
    found: dict[tuple[TwinRef, str], Billed] = {}
    for event in in_order(events):
        if isinstance(event.fact, CarrierBilled):
            place = (event.subject, event.fact.bill_id)
            found.setdefault(place, (event.fact, event.subject, []))[2].append(event.event_id)
    return list(found.values())


def assert_bills_are_matched_or_shown(
    world: World, told: Sequence[Billed], matches: Sequence[MatchCarrierBill]
) -> None:
    """By a document, or an exception that names the event; or one of its shipments has no accrual yet."""
    twins = world.twins.values()
    shown = {event for twin in twins for one in twin.snapshot().findings for event in one.events}
    posted = {event for one in matches for event in one.justified_by}
    accrued = {one.shipment_id for one in live(world.twins).values() if isinstance(one, AccrueFreight)}
    for bill, parcel, witnesses in told:
        owners = {one.key for one in world.snapshot(str(parcel)).view.shipments}
        assert owners - accrued or not bill.amount or (shown | posted) & set(witnesses)


# --- 6: transfers ----------------------------------------------------------------------------------------

moving = ABOUT[Kind.STOCK].filter(lambda one: not isinstance(one[1], StockCounted))


@generated()
@given(histories(moving, (), events_max=24), seeds)
def test_transfers_conserve_what_is_there(events: list[Event], seed: int) -> None:
    """Source + in transit + destination is what came in from outside, whatever was told of the transfers.

    Without counts, which overrule what was there before them.
    """
    arriving = Random(seed).sample(events, k=len(events))
    world = World()
    for number, event in enumerate(arriving, start=1):
        world.take([event])
        for sku in SKUS:
            assert there(world, sku) == from_outside(standing(arriving[:number]), sku)


def there(world: World, sku: str) -> Decimal:
    stocks = [world.twins[ref] for ref in (stock(sku, place) for place in PLACES) if ref in world.twins]
    documents = [twin.snapshot().document() for twin in stocks]
    return sum((sum(one["on_hand"].values()) + one["in_transit"] for one in documents), ZERO)


def from_outside(events: Sequence[Event], sku: str) -> Decimal:
    """What receipts and adjustments brought; a document that two events tell of counts as the first does."""
    documents: dict[tuple[TwinRef, type, str], Decimal] = {}
    for event in in_order(events):
        match event.fact:
            case StockReceived(receipt_id=document, quantity=quantity):
                pass
            case StockAdjusted(adjustment_id=document, delta=quantity):
                pass
            case _:
                continue
        if event.subject.key.startswith(f"{sku}@"):
            documents.setdefault((event.subject, type(event.fact), document), quantity)
    return sum(documents.values(), ZERO)


def in_order(events: Sequence[Event]) -> list[Event]:
    """Sorted for each twin."""
    by_twin: dict[TwinRef, list[Event]] = {}
    for event in events:
        by_twin.setdefault(event.subject, []).append(event)
    return list(chain.from_iterable(sort(of_one) for of_one in by_twin.values()))


# --- 4, 5: reservations ----------------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_a_reservation_is_the_open_allocated_quantity_and_nothing_is_sold_twice(
    events: list[Event], seed: int
) -> None:
    """What stock holds for orders is what their lines say; what it lacks is what they have on backorder."""
    for world, _ in each_prefix(events, seed):
        asked, lacking = Counter[TwinRef](), Counter[TwinRef]()
        for _, seen in orders_in(list(world.twins.values())):
            assert_reserves_what_is_open(seen)
            for (line_id, location), quantity in seen.reservations.items():
                asked[stock(seen.lines[line_id].line.sku, location)] += quantity
            for (line_id, location), quantity in seen.short.items():
                lacking[stock(seen.lines[line_id].line.sku, location)] += quantity
        for ref in {*asked, *lacking, *(one for one in world.twins if one.kind is Kind.STOCK)}:
            if ref not in world.twins:
                assert asked[ref] == lacking[ref] == 0
                continue
            assert_nothing_is_sold_twice(world, ref, Decimal(asked[ref]), Decimal(lacking[ref]))


def assert_reserves_what_is_open(seen: OrderView) -> None:
    """Released once, by shipping from there or by cancelling."""
    gone = Counter[tuple[str, str]]()
    for shipment in seen.shipments:
        for part in shipment.parts:
            gone[part.line_id, shipment.progress.location or ""] += part.accepted
    for line_id, line in seen.lines.items():
        allocated = {pair: one for pair, one in seen.state.allocations.items() if pair[0] == line_id}
        still = sum((max(ZERO, one.quantity - gone[pair]) for pair, one in allocated.items()), ZERO)
        held = [quantity for pair, quantity in seen.reservations.items() if pair[0] == line_id]
        assert all(quantity >= 0 for quantity in held)
        assert sum(held, ZERO) == min(line.open, still)


def assert_nothing_is_sold_twice(world: World, ref: TwinRef, asked: Decimal, lacking: Decimal) -> None:
    document = world.twins[ref].snapshot().document()
    sellable = document["on_hand"]["sellable"]
    assert document["reserved"] == asked >= 0
    assert lacking == max(ZERO, asked - max(ZERO, sellable))
    codes = {one["code"] for one in document["findings"]}
    assert (lacking > 0) is ("oversold" in codes)
    assert (min(document["on_hand"].values()) < 0) is ("negative-on-hand" in codes)
    sku, _, location = ref.key.rpartition("@")
    reserved = [
        (key, posting.quantity)
        for key, posting in live(world.twins).items()
        if isinstance(posting, ReserveStock) and (posting.sku, posting.location) == (sku, location)
    ]
    taken = ZERO
    for key, _ in reserved:
        _, order_id, line_id, place = key.split("/")
        taken += world.twins[order(order_id)].snapshot().view.taken[line_id, place]
    assert sum((quantity for _, quantity in reserved), ZERO) - taken <= max(ZERO, sellable)


# --- 9: nothing is dropped -------------------------------------------------------------------------------


@generated()
@given(arbitrary, seeds)
def test_every_event_counts_or_is_held_or_was_taken_back_in_sight(events: list[Event], seed: int) -> None:
    """Committed, and shown where it waits, where its id has other content too, where it is retracted."""
    world = World().take_each(Random(seed).sample(events, k=len(events)))
    stands = {(event.subject, event.event_id) for event in standing(events)}
    for event in events:
        twin = world.twins[event.subject]
        kept = {one.event_id: one for one in twin.history.all_events()}
        assert event.event_id in kept
        if kept[event.event_id].digest() != event.digest():
            assert twin.snapshot().conflicts[event.event_id] > 1
        if not isinstance(kept[event.event_id].fact, Retracted):
            gone = (event.subject, event.event_id) not in stands
            assert gone is (event.event_id in twin.snapshot().retracted)
    for twin in world.twins.values():
        shown = twin.snapshot()
        late = {one.events[0] for one in shown.findings if one.code == "event-held"}
        assert late == {one.event.event_id for one in shown.held}
