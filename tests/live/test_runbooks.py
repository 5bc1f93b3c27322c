"""Every runbook, tried as written: its alarm is brought about, its scripts are run, and it is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canonical.envelope import Event, batch
from canonical.facts.base import Retracted
from tests.alerts import Rule, rules
from tests.live.operated import ERP, Operated, operated, until
from tests.live.servers import kill
from tests.stories import delivered, dispatched, master_data, placed
from tests.world import tell

pytestmark = pytest.mark.live
RULES = rules()
TRIED: set[str] = set()


@pytest.fixture(scope="module")
def stopped() -> Iterator[Operated]:
    with operated() as made:
        yield made


@pytest.fixture
def site(stopped: Operated) -> Operated:
    """All is well, whatever became of the test before."""
    for server in (stopped.database, stopped.broker):
        if not server.runs():
            server.start()
    stopped.set_erp("/faults", {})
    if not stopped.runs:
        stopped.start()
    stopped.until_ready()
    stopped.tell(*master_data())
    return stopped


def rule(alert: str) -> Rule:
    TRIED.add(alert)
    return RULES[alert]


def file(folder: Path, *events: Event) -> str:
    """What a partner hands over."""
    path = folder / "told.json"
    path.write_bytes(batch(events))
    return str(path)


def sold(number: int) -> tuple[Event, Event]:
    """An order, and its dispatch."""
    order = f"SO-{number}"
    return placed(1, order=order), dispatched(f"SHP-{number}", 1, 60, order=order)


def well(site: Operated) -> Callable[[], None]:
    return lambda: site.set_erp("/faults", {})


def test_twinsync_down(stopped: Operated) -> None:
    """The first, as a start takes the longest."""
    stopped.tried(rule("TwinsyncDown"), None, by_hand={"start-twinsync": stopped.start})


# --- what comes in ---------------------------------------------------------------------------------------


def test_dead_letters_open(site: Operated, tmp_path: Path) -> None:
    right = placed(order="SO-100").structured()

    def refuse() -> None:
        site.tell_broker(right.replace(b'"quantity":"10"', b'"quantity":"many"'))
        site.tell_broker(b"hello?")
        until(lambda: len(letters()) == 2)

    def letters() -> list[Any]:
        return site.ask("/v1/dead-letters")["dead_letters"]  # type: ignore[no-any-return]

    def names() -> dict[str, str]:
        (tmp_path / "corrected.json").write_bytes(right)
        numbers = {one["field"].startswith("data"): str(one["number"]) for one in letters()}
        corrected = str(tmp_path / "corrected.json")
        return {"LETTER": numbers[True], "RUBBISH": numbers[False], "CORRECTED": corrected}

    printed = site.tried(rule("DeadLettersOpen"), refuse, names)
    assert "data.lines.0.quantity" in printed
    assert site.knows("/v1/orders/SO-100")


def test_numbers_missing(site: Operated, tmp_path: Path) -> None:
    first, second, third = (
        replace(placed(order=f"SO-11{n}"), source="/test/numbered", sequence=n) for n in (1, 2, 3)
    )
    printed = site.tried(
        rule("NumbersMissing"),
        lambda: site.tell(first, third),
        lambda: {"MISSING": file(tmp_path, second)},
    )
    assert "/test/numbered" in printed
    assert "No source has left out a number." in printed


def test_conflicting_events(site: Operated, tmp_path: Path) -> None:
    one, two = placed(1, order="SO-120"), placed(2, order="SO-120")
    assert one.id == two.id
    back = Retracted(source=one.source, id=one.id, reason="incorrect_data")
    correction = tell("order/SO-120", back, 5), replace(two, id="SO-120 as it is")

    printed = site.tried(
        rule("ConflictingEvents"),
        lambda: (site.tell(one), site.tell(two)),
        lambda: {"TWIN": "order/SO-120", "CORRECTION": file(tmp_path, *correction)},
    )
    assert "told in several versions" in printed
    assert "taken back" in printed
    until(lambda: site.ask("/v1/orders/SO-120")["lines"][0]["ordered"] == "2")


def test_deadlines_passed(site: Operated, tmp_path: Path) -> None:
    order = placed(1, order="SO-130")
    dispatch = dispatched("SHP-130", 1, 60, tracking="1Z130", order="SO-130")
    printed = site.tried(
        rule("DeadlinesPassed"),
        lambda: site.tell(delivered("1Z130", 2000)),
        lambda: {"TWIN": "tracking/ups:1Z130", "TOLD": file(tmp_path, order, dispatch)},
    )
    assert "no shipment owns this tracking number" in printed


# --- what goes out ---------------------------------------------------------------------------------------


def test_erp_refusals(site: Operated) -> None:
    posting, twin = "goods-issue/SHP-200", "shipment/SHP-200"

    def refuse() -> None:
        site.set_erp("/faults", {"refuse_keys": [posting]})
        site.tell(*sold(200))

    printed = site.tried(
        rule("ErpRefusals"), refuse, lambda: {"POSTING": posting, "TWIN": twin}, {"mend-erp": well(site)}
    )
    assert "told-to-refuse" in printed
    until(lambda: posting in live(site))


def test_erp_queue_old(site: Operated) -> None:
    def wait_long() -> None:
        site.set_erp("/faults", {"refuse_keys": ["goods-issue/SHP-210"]})
        site.tell(*sold(210))
        until(lambda: bool(site.ask("/v1/rejections")["rejections"]))
        until(lambda: bool(site.ask(f"/v1/erps/{ERP}/commands")["commands"]))
        site.backdate()

    site.tried(rule("ErpQueueOld"), wait_long, by_hand={"mend-erp": well(site)})
    until(lambda: {"goods-issue/SHP-210", "invoice/SHP-210/SO-210"} <= live(site))


def test_erp_circuit_open(site: Operated) -> None:
    def fail() -> None:
        site.set_erp("/faults", {"fail_rate": 1.0})
        for number in range(220, 230):
            site.tell(*sold(number))

    printed = site.tried(rule("ErpCircuitOpen"), fail, by_hand={"mend-erp": well(site)})
    assert "503" in printed
    until(lambda: {f"goods-issue/SHP-{number}" for number in range(220, 230)} <= live(site))


def test_erp_paused_long(site: Operated) -> None:
    pause = 'twinsync erp pause "$ERP" --reason "moving its server"'
    printed = site.tried(rule("ErpPausedLong"), lambda: site.run(pause))
    assert "moving its server" in printed


def test_reconciliation_differences(site: Operated) -> None:
    site.tell(*sold(230))
    until(lambda: "invoice/SHP-230/SO-230" in live(site))

    def names() -> dict[str, str]:
        done = next(one for one in site.ask("/v1/reconciliations")["reconciliations"] if one["counts"])
        (found,) = site.ask(f"/v1/reconciliations/{done['id']}")["differences"]
        assert found["subject"] == "invoice/SHP-230/SO-230"
        return {"DIFFERENCE": found["id"], "TWIN": "order/SO-230"}

    printed = site.tried(
        rule("ReconciliationDifferences"),
        lambda: site.set_erp("/tampering", {"kind": "dropped", "number": document(site, 230)}),
        names,
    )
    assert "document-missing" in printed
    assert "nothing differs" in printed
    assert "invoice/SHP-230/SO-230" in live(site)


def live(site: Operated) -> set[str]:
    """Posting keys of the documents that stand in the ERP."""
    return {one["posting"]["key"] for one in site.documents()}


def document(site: Operated, number: int) -> str:
    key = f"invoice/SHP-{number}/SO-{number}"
    return next(str(one["number"]) for one in site.documents() if one["posting"]["key"] == key)


# --- what it stands on -----------------------------------------------------------------------------------


def test_database_away(site: Operated) -> None:
    start = site.database.start
    site.tried(rule("DatabaseAway"), lambda: kill(site.database), by_hand={"start-database": start})


def test_changes_late(site: Operated) -> None:
    """A listener's queue is full, and refuses what would be the second message."""

    def fill() -> None:
        site.fill_queue("full")
        site.tell(placed(order="SO-200"), *sold(201))
        site.run(
            'psql -q "$DATABASE" -c "UPDATE changes SET committed_at = \'2025\' || substr(committed_at, 5)"'
        )

    printed = site.tried(rule("ChangesLate"), fill, by_hand={"make-room": lambda: site.delete_queue("full")})
    assert "full" in printed


def test_broker_away(site: Operated) -> None:
    start = site.broker.start
    printed = site.tried(rule("BrokerAway"), lambda: kill(site.broker), by_hand={"start-broker": start})
    assert "twinsync.ingest" in printed


def test_hosts_away(site: Operated) -> None:
    site.tried(rule("HostsAway"), site.freeze_hosts, by_hand={"restart-twinsync": site.restart})


def test_erp_gateway_away(site: Operated) -> None:
    again = {"restart-twinsync": site.restart}
    printed = site.tried(rule("ErpGatewayAway"), site.freeze_gateway, by_hand=again)
    assert "not running" in printed


def test_after_all_that_no_posting_was_made_twice(site: Operated) -> None:
    keys = [one["posting"]["key"] for one in site.documents()]
    assert sorted(keys) == sorted(set(keys))
    assert keys


def test_no_alarm_was_left_out(site: Operated) -> None:
    assert RULES.keys() == TRIED
