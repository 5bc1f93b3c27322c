"""Reconciling as operations do it: the command line, over HTTP, with twins on Ray and an ERP in a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.models import Copied, Dropped
from adapters.simulated_erp.process import RunningErp
from adapters.simulated_erp.process import start as start_erp
from ops.local import quiet, start_http, start_twins, stop_twins
from ops.wiring import Installation
from tests.live.installations import KEY, publish, settings
from tests.stories import golden

pytestmark = [pytest.mark.live]
STOCK = "sku,location,status,quantity,as_of\nSKU-1,DC-01,sellable,{},2026-03-10T00:00:00Z\n"


@pytest.fixture(scope="module")
def served(
    on_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Installation, RunningErp]]:
    with start_erp() as erp:
        chosen = settings(
            tmp_path_factory.mktemp("reconciled"),
            erp_connector="simulated",
            erp_url=erp.url,
            reconcile_patience_s=0.1,
            reconcile_every_s=0.5,
            sweep_every_s=0.2,
        )
        installation = Installation(chosen)
        asyncio.run(start_twins(installation))
        start_http(installation)
        yield installation, erp
        asyncio.run(stop_twins(installation))


def reconcile(installation: Installation, *arguments: str) -> tuple[int, dict[str, object]]:
    url = f"http://127.0.0.1:{installation.settings.http_port}"
    command = [sys.executable, "-m", "ops.cli", "reconcile", *arguments]
    command += ["--url", url, "--key", KEY, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def found(told: dict[str, object]) -> list[tuple[str, str]]:
    return [(one["kind"], one["subject"]) for one in told["differences"]]  # type: ignore[attr-defined]


async def test_what_somebody_did_to_the_erp_is_found_listed_and_mended_on_request(
    served: tuple[Installation, RunningErp], tmp_path: Path
) -> None:
    installation, running = served
    await publish(installation, golden())
    await quiet(installation, len(golden()))
    erp = SimulatedErpConnector(running.url)
    held = {one.posting_key: one.number async for one in erp.documents()}
    right, wrong = tmp_path / "right.csv", tmp_path / "wrong.csv"
    right.write_text(STOCK.format(92))
    wrong.write_text(STOCK.format(90))

    status, told = await asyncio.to_thread(reconcile, installation, "--stock", str(right))
    assert (status, found(told)) == (0, [])

    await erp.tamper(Dropped(held["invoice/SHP-1/SO-1"]))  # type: ignore[index]
    await erp.tamper(Copied(held["payment/P-1/SO-1"]))  # type: ignore[index]
    status, told = await asyncio.to_thread(reconcile, installation, "--stock", str(wrong))
    assert status == 1
    assert found(told) == [
        ("document-missing", "invoice/SHP-1/SO-1"),
        ("document-doubled", "payment/P-1/SO-1"),
        ("stock-differs", "stock/SKU-1@DC-01"),
    ]

    status, told = await asyncio.to_thread(
        reconcile, installation, "--report", str(told["id"]), "--apply", "all"
    )
    assert status == 0
    await quiet(installation, len(golden()))
    status, told = await asyncio.to_thread(reconcile, installation, "--stock", str(wrong))
    assert (status, found(told)) == (0, [])
    assert (await erp.live_documents()).doubled == {}
    await erp.close()


async def test_it_reconciles_by_itself_and_counts_what_it_found(
    served: tuple[Installation, RunningErp],
) -> None:
    import httpx

    installation, running = served
    erp = SimulatedErpConnector(running.url)
    held = [one async for one in erp.documents() if one.live]
    await erp.tamper(Copied(held[0].number))
    await erp.close()
    async with httpx.AsyncClient() as http:
        async with asyncio.timeout(60):
            while (
                'twinsync_reconciliation_differences{kind="document-doubled"} 1.0'
                not in (await http.get(f"http://127.0.0.1:{installation.settings.http_port}/metrics")).text
            ):
                await asyncio.sleep(0.3)


async def test_a_malformed_snapshot_is_refused_by_line_and_field(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(STOCK.format("many"))
    command = [sys.executable, "-m", "ops.cli", "reconcile", "--stock", str(bad), "--key", KEY]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "line 2, quantity" in done.stderr
