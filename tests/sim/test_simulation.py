"""The whole system, simulated with faults: nothing lost, nothing posted twice, the same truth.

The faults that are put into the core here are what shows that the simulation can fail.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canonical.envelope import Event
from canonical.money import ZERO
from ops.simulation.faults import Fault
from ops.simulation.machinery import Disk, Simulation
from ops.simulation.oracle.truth import truth
from ops.simulation.stories import tell_day
from ops.simulation.verdict import run_simulation, shrunk
from twins.core.history import Folded, History, SortKey
from twins.core.kinds import RULES
from twins.core.ledger import Ledger
from twins.core.rules import Policy, Word, put
from twins.core.twin import Twin

DAY = range(8)


@pytest.mark.parametrize("seed", range(1, 61))
def test_faults_change_nothing(seed: int) -> None:
    verdict = run_simulation(seed, DAY)
    assert verdict["ok"], verdict


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_alone_changes_nothing_and_does_strike(fault: Fault) -> None:
    verdict = run_simulation(7, range(24), frozenset({fault}))
    assert verdict["ok"], verdict
    assert verdict["injected"][fault.value] > 0


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Nothing depends on how a process hashes text."""
    code = "import json, ops.simulation.verdict as v; print(json.dumps(v.run_simulation(3, range(9))))"

    def run(hash_seed: str) -> Any:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        return json.loads(done.stdout)

    assert run("1") == run("2") == run_simulation(3, range(9))


def test_leaving_out_an_order_changes_no_other() -> None:
    def of(number: int, events: list[Event]) -> set[tuple[str, bytes]]:
        return {(event.id, event.data_json()) for event in events if event.id.startswith(f"SO-{number}/")}

    all_of_them = tell_day(5, range(6), skewed=True)
    assert of(4, all_of_them) == of(4, tell_day(5, [4], skewed=True)) != set()


def test_a_day_has_every_kind_of_fact_and_every_fate() -> None:
    told = {event.type.split(".")[-2] for seed in range(30) for event in tell_day(seed, DAY, skewed=False)}
    assert {"retracted", "voided", "amended", "substituted", "transferred-in", "carrier-billed"} <= told
    assert {"return-inspected", "refund-issued", "cancel-accepted", "hold-released", "counted"} <= told


def test_days_have_bills_that_are_summed_and_shared_and_such_as_are_exceptions() -> None:
    matched: Counter[str] = Counter()
    codes: set[str] = set()
    for seed in range(60):
        found = truth(tell_day(seed, DAY, skewed=False))
        bills = [one for one in found.postings.values() if one["command"] == "carrier-bill"]
        for what, name in (("summed", "shipment_id"), ("shared", "bill_id")):
            matched[what] += any(many > 1 for many in Counter(one[name] for one in bills).values())
        codes |= {code for state in found.states.values() for code, _ in state.get("money", ())}
    assert min(matched["summed"], matched["shared"]) >= 5, matched
    assert codes == {"carrier-bill-mismatch", "other-currency"}


def test_what_is_delivered_is_what_the_day_told() -> None:
    events = tell_day(5, DAY, skewed=False)
    run = Simulation(events, 5, frozenset(), Policy())
    run.run()
    kept = {event.event_id for known in run.disk.events.values() for event in known.values()}
    assert {event.event_id for event in events} <= kept
    assert run.disk.queue == {}


def test_the_oracle_knows_the_golden_run() -> None:
    """It was written from the domain; here it is held against what a real ERP posted."""
    from fractions import Fraction

    from ops.simulation.oracle.accounts import accounts
    from tests.stories import golden

    found = accounts(truth(golden()).postings.values())
    assert "receivable" not in found  # invoiced, credited, paid and refunded: nothing is owed
    assert found["revenue"] == -160
    assert found["freight-income"] == Fraction("-7.50")
    assert found["tax"] == Fraction("-13.20")
    assert found["cost-of-goods"] == 64
    assert found["inventory"] == -64


# --- faults in the core ----------------------------------------------------------------------------------


def first_caught(faults: tuple[Fault, ...], complaint: str) -> int | None:
    """The first seed whose verdict has *complaint* among what is wrong."""
    chosen = frozenset(faults) if faults else None
    return next((seed for seed in range(1, 101) if run_simulation(seed, DAY, chosen)[complaint]), None)


def arrival_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sort key uses arrival."""

    placed: dict[tuple[int, str], SortKey] = {}

    def place(self: History[object], event: Event, effective: datetime) -> bool:
        arrived = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=len(placed))
        key = SortKey(arrived, 0, event.source, -1, event.id)
        placed[id(self), event.event_id] = key
        if self._numbered_keys is not None:
            self._numbered_keys[event.event_id] = key
        self._line = [*self._line, event]
        return False

    monkeypatch.setattr(History, "_place", place)
    monkeypatch.setattr(History, "_key", lambda self, event: placed[id(self), event.event_id])


def first_come_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two versions of one id, the one that came first counts."""
    from twins.core.history import Arrival

    def compare(self: History[object], known: Event, event: Event) -> Arrival:
        return Arrival.DUPLICATE if known == event else Arrival.CONFLICT

    monkeypatch.setattr(History, "_compare", compare)


def hold_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that nothing enables yet is dropped."""
    monkeypatch.setattr(History, "_retry", lambda self, state, held: Folded(state, held))


def numbers_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that numbers its events is believed by its clock."""
    insert = History._insert
    monkeypatch.setattr(History, "_insert", lambda self, event: insert(self, replace(event, sequence=None)))


def retraction_counts_only_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A retraction that comes before its event is forgotten."""
    from twins.core.history import Arrival

    take = History._take

    def forgetful(self: History[object], event: Event) -> Arrival:
        self.retractions = self.retractions.discard(event.event_id)
        return take(self, event)

    monkeypatch.setattr(History, "_take", forgetful)


def contribution_as_increment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a neighbour says is added to what it said before, instead of replacing it."""
    from twins.core.stock import StockInbox

    absorb = StockInbox.absorb
    monkeypatch.setattr(StockInbox, "absorb", lambda self, source, old, new: absorb(self, source, None, new))


def version_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour's word replaces whatever is there, even a newer one."""
    absorb = Twin.absorb

    def gullible(self: Twin, contribution: Any) -> bool:
        known = self.registers.get(contribution.source)
        if known is not None and known.version >= contribution.version:
            if known.value == contribution.value:
                return False
            older = Word(contribution.version - 1, known.value)
            self.inbox.words = put(self.inbox.words, {contribution.source: older})
        return absorb(self, contribution)

    monkeypatch.setattr(Twin, "absorb", gullible)


def reversal_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes is posted anew, and the old document is left in the ERP."""
    from canonical.postings import Action
    from twins.core import twin

    plan = twin.plan

    def forgetful(desired: Any, ledger: Ledger, *, whole: bool) -> Any:
        commands, records = plan(desired, ledger, whole=whole)
        return [one for one in commands if one.action is not Action.REVERSE], records

    monkeypatch.setattr(twin, "plan", forgetful)


def money_in_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line amounts are divided in binary fractions, and rounded at the end."""
    from decimal import Decimal

    from twins.core import order

    def share(whole: Any, before: Any, part: Any, total: Any, code: str) -> Any:
        return Decimal(str(round(float(whole) * float(part) / float(total or 1), 2)))

    monkeypatch.setattr(order, "share", share)


def epoch_not_asserted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that was replaced goes on committing."""
    monkeypatch.setattr(Disk, "claim", lambda self, host: self.epochs[host])


def no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time-out the ERP is told again, without asking it first."""
    from adapters.simulated_erp.books import Books

    monkeypatch.setattr(Books, "find", lambda self, key: ())


def invoice_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that was refused to be reversed does not hold up the next version."""
    from twins.core import dispatch

    monkeypatch.setattr(dispatch, "_still_there", lambda statuses, decided: set())


def late_count_moves_stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A movement dated before a count is added to what was counted."""
    from twins.core import stock

    view = stock.view

    def naive(ref: Any, state: Any, inbox: Any, policy: Any) -> Any:
        seen = view(ref, state, inbox, policy)
        for status, moves in (inbox.moves or {}).items():
            moved = sum(moves.sums.values(), ZERO)
            seen.on_hand = {**seen.on_hand, status: seen.on_hand[status] + moved}
        return seen

    monkeypatch.setitem(RULES, "stock", replace(stock.RULES, view=naive))


def checkpoint_kept_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late event is folded upon a state that has later ones in it."""
    monkeypatch.setattr(History, "_changed_at", lambda self, position: position < self._position)


def witness_counts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same adjustment told by two sources is adjusted for twice."""
    from canonical.facts.stock import StockAdjusted
    from twins.core import stock

    evolve = stock.evolve

    def twice(state: Any, event: Event) -> Any:
        if isinstance(event.fact, StockAdjusted):
            named = replace(event.fact, adjustment_id=f"{event.fact.adjustment_id} {event.id}")
            event = replace(event, fact=named)
        return evolve(state, event)

    monkeypatch.setitem(RULES, "stock", replace(stock.RULES, evolve=twice))


def mail_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a twin has to say to one of another host is sent once, and not committed with the batch."""
    commit = Disk.commit

    def careless(self: Disk, host: str, epoch: int, effects: Any, delivered: Any) -> None:
        commit(self, host, epoch, effects, delivered)
        self.mail.clear()

    monkeypatch.setattr(Disk, "commit", careless)


def slipped_past_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late movement is added to what is there now, although a count came after it."""
    from twins.core import stock

    monkeypatch.setattr(stock, "_first_count_after", lambda state, status, around: "")


def goods_never_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reservations once covered stay covered, whatever is counted."""
    from twins.core.stock import _Reservations

    move = _Reservations._move_cut

    def forward(self: _Reservations) -> None:
        self.goods = max(self.goods, self.before_cut)
        move(self)

    monkeypatch.setattr(_Reservations, "_move_cut", forward)


def back_with_the_last_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goods of a return are on the shelf when the last of them was looked at."""
    from twins.core import order

    restocks = order._restocks

    def late(*args: Any) -> Any:
        found = list(restocks(*args))
        last = max((one.move.at for one in found), default=None)
        return [one._replace(move=one.move._replace(at=last)) for one in found]

    monkeypatch.setattr(order, "_restocks", late)


def back_as_what_was_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A substitute comes back to the shelf of the SKU that was ordered."""
    from twins.core import order

    restocks = order._restocks

    def mistaken(seen: Any, part: Any, *args: Any) -> Any:
        sku = seen.lines[part.line_id].line.sku
        return [one._replace(sku=sku) for one in restocks(seen, part, *args)]

    monkeypatch.setattr(order, "_restocks", mistaken)


def amendments_between_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several amendments the newest and the placing are known."""
    from twins.core import order

    monkeypatch.setattr(order, "_superseded", lambda state: ())


def bill_for_each_of_those_who_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bill for a number of several shipments is told to each of them as a whole."""
    from twins.core import tracking

    def whole(bill: Any, payers: Any) -> Any:
        return {ref: bill for ref, _ in payers}

    monkeypatch.setattr(tracking, "_divided", whole)


def bills_are_compared_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bill that would fit by itself is matched, whatever has been matched before."""
    from twins.core import shipment

    matched = shipment._matched

    def alone(dispatched: Any, bills: Any, policy: Policy) -> Any:
        return tuple(one for bill in bills for one in matched(dispatched, (bill,), policy))

    monkeypatch.setattr(shipment, "_matched", alone)


def currencies_of_bills_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a bill is in, it is taken for what was accrued."""
    from twins.core import shipment

    bills = shipment._bills

    def added(words: Any) -> Any:
        return tuple(one._replace(currency="USD") for one in bills(words))

    monkeypatch.setattr(shipment, "_bills", added)


def money_is_added_whatever_it_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment counts for the order by its number alone."""
    from twins.core import order

    def added(moves: Any, currency: str) -> Any:
        return sum((money.amount for money in moves.values()), ZERO)

    monkeypatch.setattr(order, "_sum", added)


def costs_are_taken_whatever_they_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goods leave at the number that the item says, in the currency of their order."""
    from twins.core import shipment

    monkeypatch.setattr(shipment, "_foreign", lambda accepted, costs: {})


def shelves_go_by_the_last_currency(monkeypatch: pytest.MonkeyPatch) -> None:
    """What moved before an item's cost was told in another currency is posted in that one."""
    from twins.core import stock

    monkeypatch.setattr(stock, "_currency", lambda seen, at: seen.card.costs[-1].currency)


BREAKS: list[tuple[Callable[[pytest.MonkeyPatch], None], tuple[Fault, ...], str]] = [
    (arrival_order, (Fault.REORDER,), "states_unlike_the_oracle"),
    (first_come_wins, (Fault.REORDER,), "postings_unlike_the_oracle"),
    (hold_forgotten, (Fault.SKEW,), "states_unlike_the_oracle"),
    (numbers_ignored, (), "states_unlike_the_oracle"),
    (retraction_counts_only_backwards, (Fault.REORDER,), "states_unlike_the_oracle"),
    (contribution_as_increment, (), "states_unlike_the_oracle"),
    (version_not_compared, (Fault.MAIL_DUPLICATE, Fault.REORDER), "states_unlike_the_oracle"),
    (reversal_omitted, (), "erp_documents_unlike_the_ledger"),
    (money_in_floats, (), "postings_unlike_the_oracle"),
    (epoch_not_asserted, (Fault.ZOMBIE,), "zombies_not_fenced"),
    (no_look_up, (Fault.ERP_TIMEOUT,), "keys_with_more_than_one_document"),
    (invoice_does_not_wait, (Fault.ERP_REFUSES, Fault.REORDER), "keys_with_more_than_one_document"),
    (late_count_moves_stock, (), "states_unlike_the_oracle"),
    (checkpoint_kept_too_long, (Fault.REORDER,), "states_unlike_the_oracle"),
    (witness_counts_again, (), "postings_unlike_the_oracle"),
    (slipped_past_a_count, (Fault.REORDER,), "states_unlike_the_oracle"),
    (goods_never_taken_back, (), "states_unlike_the_oracle"),
    (mail_not_kept, (Fault.MAIL_LOSS,), "states_unlike_the_oracle"),
    (back_with_the_last_inspection, (), "states_unlike_the_oracle"),
    (back_as_what_was_ordered, (), "states_unlike_the_oracle"),
    (amendments_between_forgotten, (), "states_unlike_the_oracle"),
    (bill_for_each_of_those_who_share_it, (), "postings_unlike_the_oracle"),
    (bills_are_compared_alone, (), "postings_unlike_the_oracle"),
    (currencies_of_bills_are_added, (), "states_unlike_the_oracle"),
    (money_is_added_whatever_it_is_in, (), "states_unlike_the_oracle"),
    (costs_are_taken_whatever_they_are_in, (), "postings_unlike_the_oracle"),
    (shelves_go_by_the_last_currency, (), "postings_unlike_the_oracle"),
]


@pytest.mark.parametrize(
    ("put_in", "faults", "complaint"), BREAKS, ids=lambda one: getattr(one, "__name__", None)
)
def test_a_fault_in_the_core_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    put_in: Callable[[pytest.MonkeyPatch], None],
    faults: tuple[Fault, ...],
    complaint: str,
) -> None:
    put_in(monkeypatch)
    assert first_caught(faults, complaint) is not None


def test_a_failure_is_shrunk_to_the_fewest_orders_and_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    money_in_floats(monkeypatch)
    faults = frozenset({Fault.DUPLICATE, Fault.REORDER, Fault.ERP_AWAY})
    seed = next(seed for seed in range(1, 40) if not run_simulation(seed, DAY, faults)["ok"])
    small = shrunk(seed, DAY, faults)
    assert not small["ok"]
    assert small["faults"] == []
    assert len(small["order_numbers"]) == 1
