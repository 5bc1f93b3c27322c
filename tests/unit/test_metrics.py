"""What a scrape finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ops.metrics import NAMES, exposition
from ops.settings import Settings
from ops.wiring import Installation
from tests.alerts import Sample, samples


async def scraped(tmp_path: Path, figures: Any, ready: dict[str, bool]) -> list[Sample]:
    async def read(_: Installation) -> Any:
        return figures

    async def states() -> dict[str, bool]:
        return ready

    body, _ = await exposition(Installation(Settings(data_dir=tmp_path)), read, states)
    return samples(body.decode())


async def test_figures_are_told_by_actor_and_readiness_by_check(tmp_path: Path) -> None:
    figures = {
        ("host", "host-0"): {"events": 3, "reconciliation_differences/document-missing": 1},
        ("ingest", "ingest-0"): {"consumed": 5, "redelivered": 0, "held": 1},
        ("gateway", "gateway-main"): {"refusals_open": 2},
    }
    found = await scraped(tmp_path, figures, {"database": False, "hosts": True})
    assert found == [
        Sample("up", {"job": "twinsync"}, 1.0),
        Sample("twinsync_events_total", {"actor": "host-0"}, 3.0),
        Sample("twinsync_messages_consumed_total", {"actor": "ingest-0"}, 5.0),
        Sample("twinsync_messages_redelivered_total", {"actor": "ingest-0"}, 0.0),
        Sample("twinsync_messages_held", {"actor": "ingest-0"}, 1.0),
        Sample("twinsync_erp_refusals_open", {"actor": "gateway-main"}, 2.0),
        Sample("twinsync_reconciliation_differences", {"kind": "document-missing"}, 1.0),
        Sample("twinsync_ready", {"check": "database"}, 0.0),
        Sample("twinsync_ready", {"check": "hosts"}, 1.0),
    ]
    assert {one.metric.removesuffix("_total") for one in found[1:]} <= NAMES


async def test_a_gateway_that_does_not_answer_is_told_of_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSYNC_ERPS", '{"main": {"connector": "amqp"}, "cloud": {"connector": "amqp"}}')
    found = await scraped(tmp_path, {("gateway", "gateway-main"): {}}, {})
    running = {one.labels["actor"]: one.value for one in found if one.metric == "twinsync_erp_running"}
    assert running == {"gateway-main": 1.0, "gateway-cloud": 0.0}


async def test_a_figure_that_an_actor_does_not_have_is_left_out(tmp_path: Path) -> None:
    assert await scraped(tmp_path, {("host", "host-0"): {}}, {}) == [Sample("up", {"job": "twinsync"}, 1.0)]
