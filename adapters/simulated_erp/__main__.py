"""``python -m adapters.simulated_erp``: the ERP as a process. Says one line when it is ready to be asked."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from adapters.simulated_erp.books import Books, Manners
from adapters.simulated_erp.journal import Journal
from adapters.simulated_erp.server import SimulatedErp

HOST = "127.0.0.1"
READY = "listening on "
PARENT_POLL_S = 1.0
SHUTDOWN_S = 0.5
"""How long requests under way may take once it is told to stop."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _arguments(argv)
    manners = Manners(
        one_live_document=arguments.references == "strict", idempotent=arguments.idempotency == "strict"
    )
    books = Books(manners)
    journal = Journal(arguments.journal) if arguments.journal else None
    try:
        if journal is not None:
            journal.replay(books)
        asyncio.run(_serve(SimulatedErp(books, journal), arguments.port, arguments.parent_pid))
    finally:
        if journal is not None:
            journal.close()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("simulated_erp", description="A double-entry ERP to try twinsync with.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--parent-pid", type=int, help="end when this process has ended")
    parser.add_argument("--journal", type=Path, help="file that keeps the books over a restart")
    parser.add_argument(
        "--references",
        choices=("lenient", "strict"),
        default="lenient",
        help="strict: refuse a second live document of a posting key",
    )
    parser.add_argument(
        "--idempotency",
        choices=("strict", "naive"),
        default="strict",
        help="naive: post again when an idempotency key is repeated",
    )
    return parser.parse_args(argv)


async def _serve(erp: SimulatedErp, port: int, parent_pid: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(erp.application(), access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        host, bound = runner.addresses[0][:2]
        sys.stdout.write(f"{READY}http://{host}:{bound}\n")
        sys.stdout.flush()
        await _until_told(stop, parent_pid)
    finally:
        await runner.cleanup()


async def _until_told(stop: asyncio.Event, parent_pid: int | None) -> None:
    started_by = os.getppid()
    while not stop.is_set() and (parent_pid is None or _runs(parent_pid, started_by)):
        with suppress(TimeoutError):
            async with asyncio.timeout(PARENT_POLL_S):
                await stop.wait()


def _runs(parent_pid: int, started_by: int) -> bool:
    """A parent of ours that has ended is no longer our parent, even while it is a zombie."""
    if parent_pid == started_by:
        return os.getppid() == parent_pid
    try:
        os.kill(parent_pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main()
