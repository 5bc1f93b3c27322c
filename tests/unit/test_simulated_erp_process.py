"""The ERP as a process: it starts, keeps its books, and never outlives whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.process import start
from canonical.errors import TransientFailure
from canonical.postings import Account, Action, Command
from tests.unit.test_simulated_erp_books import issue
from twins.ports import Confirmed

pytestmark = pytest.mark.live
SHIPPED = Command(Action.POST, 1, issue("SHP-1", 6))
ORPHAN = """
import os
from adapters.simulated_erp.process import start
print(start().pid, flush=True)
os._exit(1)
"""


def test_sigterm_ends_it_cleanly() -> None:
    running = start()
    os.kill(running.pid, signal.SIGTERM)
    assert running.child.wait(5) == 0
    running.stop()


def test_it_ends_by_itself_when_its_parent_has_died() -> None:
    parent = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    orphan = int(parent.stdout)
    assert _within(5, lambda: not _listens(orphan)), f"process {orphan} is still there"


def _listens(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_port_that_is_taken_is_a_failure_and_leaves_nothing_running() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(TransientFailure, match="did not start"),
    ):
        start(port=taken.getsockname()[1])


async def test_the_journal_keeps_documents_and_costs_over_a_kill(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with start(journal=journal) as running:
        connector = SimulatedErpConnector(running.url)
        await connector.set_standard_costs({"SKU-1": Decimal("8.00")})
        first = await connector.tell(SHIPPED)
        before = await connector.trial_balance()
        await connector.close()
        os.kill(running.pid, signal.SIGKILL)
    with start(journal=journal) as running:
        connector = SimulatedErpConnector(running.url)
        assert await connector.look_up(SHIPPED.idempotency_key) == first == Confirmed("DOC-000001")
        assert await connector.tell(SHIPPED) == first
        assert await connector.trial_balance() == before
        await connector.tell(Command(Action.POST, 1, issue("SHP-2", 1)))
        assert (await connector.trial_balance()).of(Account.COST_INTERIM) == (Decimal("56.00"), Decimal(0))
        await connector.close()
