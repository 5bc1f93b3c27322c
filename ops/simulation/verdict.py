"""Run a simulated day and judge it: by the oracle, by the same day without faults, and by the ERP's books."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

from canonical.identity import Kind, PostingKey, TwinRef
from canonical.postings import Posting
from ops.simulation.faults import Fault, drawn
from ops.simulation.machinery import Simulation
from ops.simulation.oracle.accounts import accounts
from ops.simulation.oracle.exceptions import CODES
from ops.simulation.oracle.facts import Plain
from ops.simulation.oracle.truth import MONEY, Truth, truth
from ops.simulation.stories import tell_day
from twins.core.dispatch import decide
from twins.core.ledger import Record, Status
from twins.core.rules import Policy
from twins.core.twin import Snapshot

Verdict = dict[str, Any]
_DESIRED = frozenset({Status.QUEUED, Status.CONFIRMED, Status.REJECTED})
_LEFT_OUT = frozenset({"justified_by", "requires", "goods_issue_digest"})
"""Parts of a posting that say how it came about, not what it is."""


def run_simulation(
    seed: int, orders: Sequence[int], faults: frozenset[Fault] | None = None, policy: Policy | None = None
) -> Verdict:
    """Shape: ``ok``, what was injected, counts, and the names of whatever is not as it must be.

    *orders*: numbers of the day's orders. *faults* None: the seed draws which.
    """
    chosen = drawn(seed) if faults is None else faults
    told = tell_day(seed, orders, skewed=Fault.SKEW in chosen)
    rules = policy or Policy()
    clean, run = Simulation(told, seed, frozenset(), rules), Simulation(told, seed, chosen, rules)
    if Fault.SKEW in chosen:
        run.injected[Fault.SKEW] = len({event.source for event in told})
    clean.run()
    run.run()
    expected = truth(told)
    snapshots = run.snapshots()
    wrong = {
        "states_unlike_the_oracle": sorted(_unlike(expected, snapshots)),
        "states_unlike_without_faults": sorted(_differ(_documents(clean.snapshots()), _documents(snapshots))),
        "postings_unlike_the_oracle": sorted(_differ(expected.postings, _desired(run))),
        **_in_the_erp(run, expected, snapshots),
        "events_unaccounted_for": sorted(_lost(run, told)),
        "zombies_not_fenced": run.not_fenced,
    }
    return {
        "seed": seed,
        "orders": len(orders),
        "events": len(told),
        "faults": sorted(chosen),
        "injected": {fault: run.injected[fault] for fault in sorted(chosen)},
        "twins": len(snapshots),
        "live_postings": len(expected.postings),
        "documents_in_erp": len(run.books.documents),
        "zombies_fenced": run.fenced,
        "numbers_asked_for": run.backfilled,
        **wrong,
        "ok": not any(wrong.values()),
    }


# --- states ----------------------------------------------------------------------------------------------


def _documents(snapshots: dict[TwinRef, Snapshot]) -> dict[str, Plain]:
    """Without what the ERP refused: that is not the facts' doing."""
    found = {str(ref): one.document() for ref, one in snapshots.items() if one.exists}
    for document in found.values():
        document["findings"] = [one for one in document["findings"] if one["code"] != "posting-rejected"]
    return found


def _unlike(expected: Truth, snapshots: dict[TwinRef, Snapshot]) -> Iterator[str]:
    documents = {
        str(ref): _plain(_told_of(one)) | {MONEY: _about_money(one)}
        for ref, one in snapshots.items()
        if one.exists
    }
    for name, state in expected.states.items():
        found = documents.get(name)
        if found is None or any(found[key] != value for key, value in state.items()):
            yield name


def _told_of(snapshot: Snapshot) -> Plain:
    document = snapshot.document()
    if snapshot.ref.kind is not Kind.ORDER:
        return document
    lines = {line["line_id"]: {name: line[name] for name in _LINE} for line in document["lines"]}
    return {**document["payment"], "lines": lines, "status": document["status"]}


def _about_money(snapshot: Snapshot) -> list[tuple[str, list[str]]]:
    return sorted((one.code, sorted(set(one.events))) for one in snapshot.findings if one.code in CODES)


_LINE = [
    "ordered",
    "cancelled",
    "shipped",
    "excess",
    "delivered",
    "invoiced",
    "returned",
    "accepted",
    "credited",
    "backordered",
    "open",
]


# --- postings --------------------------------------------------------------------------------------------


def _desired(run: Simulation) -> dict[str, Plain]:
    current = {key: versions[-1] for key, versions in run.records().items()}
    return {str(key): plain_posting(one.posting) for key, one in current.items() if one.status in _DESIRED}


def plain_posting(posting: Posting) -> Plain:
    told = {name: value for name, value in asdict(posting).items() if name not in _LEFT_OUT}
    found = _plain(told)
    assert isinstance(found, dict)
    return found


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return Fraction(value)
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return _plain(value._asdict())
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return value


# --- the ERP ---------------------------------------------------------------------------------------------


def _in_the_erp(run: Simulation, expected: Truth, snapshots: dict[TwinRef, Snapshot]) -> dict[str, Any]:
    """What the ERP refused is shown, holds up what depends on it, and nothing else."""
    records, held = run.records(), run.in_erp()
    refused = {key for key, versions in records.items() if any(map(_is_refused, versions))}
    waiting = {one.command.key for one in run.disk.queue.values()}
    sendable = decide(list(run.disk.queue.values()), run.statuses())
    shown = {text for one in snapshots.values() for text in _refusals_shown(one)}
    free = (expected.postings.keys() | {str(key) for key in held}) - refused - waiting
    balance: dict[str, Fraction] = defaultdict(Fraction)
    for row in run.books.trial_balance().rows:
        balance[row.account] += Fraction(row.debit) - Fraction(row.credit)
    net = {account: amount for account, amount in sorted(balance.items()) if amount}
    return {
        "erp_documents_unlike_the_ledger": sorted(
            key
            for key in free
            if _plain_all(held.get(PostingKey(key), [])) != _one(expected.postings.get(key))
        ),
        "keys_with_more_than_one_document": sorted(key for key, found in held.items() if len(found) > 1),
        "commands_that_could_be_sent": sorted({one.command.key for one in sendable.send}),
        "commands_that_wait_for_nothing": sorted(waiting) if not refused else [],
        "refusals_not_shown": sorted(refused - shown),
        "erp_out_of_balance": not run.books.trial_balance().in_balance,
        "accounts_unlike_the_oracle": (
            [] if refused or waiting else sorted(_differ(accounts(expected.postings.values()), net))
        ),
    }


def _is_refused(record: Record) -> bool:
    return record.status is Status.REJECTED or (
        record.status is Status.REVERSING and record.reason is not None
    )


def _refusals_shown(snapshot: Snapshot) -> Iterator[str]:
    return (one.text.partition(": ")[0] for one in snapshot.findings if one.code == "posting-rejected")


def _plain_all(postings: Iterable[Posting]) -> list[Plain]:
    return [plain_posting(one) for one in postings]


def _one(posting: Plain | None) -> list[Plain]:
    return [] if posting is None else [posting]


# --- events ----------------------------------------------------------------------------------------------


def _lost(run: Simulation, told: Sequence[Any]) -> Iterator[str]:
    """Every version of every event that was told is in its twin's history."""
    kept = {(ref, *place) for ref, known in run.disk.events.items() for place in known}
    wanted = Counter((event.subject, event.event_id, event.digest()) for event in told)
    return (str(place[1]) for place in wanted if place not in kept)


def _differ(one: dict[Any, Any], other: dict[Any, Any]) -> Iterator[str]:
    return (str(key) for key in one.keys() | other.keys() if one.get(key) != other.get(key))


# --- shrinking -------------------------------------------------------------------------------------------


def shrunk(
    seed: int, orders: Sequence[int], faults: frozenset[Fault], fails: Callable[[Verdict], bool] | None = None
) -> Verdict:
    """The verdict of the fewest orders and faults that still fail: leaving out any one more would pass."""
    failing = fails or (lambda verdict: not verdict["ok"])

    def still_fails(some: Sequence[int], chosen: frozenset[Fault]) -> bool:
        return failing(run_simulation(seed, some, chosen))

    kept, chosen = list(orders), faults
    size = max(1, len(kept) // 2)
    while True:
        before = (len(kept), len(chosen))
        for fault in sorted(chosen):
            if still_fails(kept, chosen - {fault}):
                chosen -= {fault}
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if still_fails(fewer, chosen):
                kept = fewer
            else:
                start += size
        if size == 1 and before == (len(kept), len(chosen)):
            return run_simulation(seed, kept, chosen) | {"order_numbers": kept}
        size = max(1, size // 2)
