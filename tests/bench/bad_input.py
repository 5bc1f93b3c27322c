"""Thousands of malformed messages, by HTTP and AMQP, and what they leave behind.

Prints, for each kind and way in, how many there were, how they ended and one of the reasons; then the memory
of the processes and the speed of good events, before and after, measured in the same run. Exit status 0 only
if every message was refused by a reason that names the field, every good one was taken, and memory and speed
are what they were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adapters.amqp.topology import Names, clear_away
from adapters.sql.store import SqlStore
from ops.local import free_port, local_ray, ray_home, start_http, start_twins, stop_twins
from ops.settings import Settings
from ops.wiring import Installation
from tests.live.bad_input import good_event
from tests.live.bad_input_told import Ended, by_amqp, by_http, goods, stored_at_last
from tests.services import AMQP
from twins.ports import Publication

out = Console(stderr=True, width=int(os.environ.get("COLUMNS", "180")))
KEY = "bench"
ROUNDS, ROUND_AMQP, ROUND_HTTP = 6, 2_000, 300
TOGETHER = 16
GROWTH_MAX, SLOWER_MAX = 1.25, 0.75
"""What noise explains: of memory in all processes together, and of speed."""
REASON_SHOWN = 90
WATCHED = ("HostActor", "IngestActor", "ServeReplica")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=2_500, help="by each of HTTP and AMQP")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    url = os.environ.get(AMQP)
    if url is None:
        raise SystemExit(f"no RabbitMQ: run 'make bad-input', or set {AMQP}")
    folder, prefix = Path(".build/bad-input"), f"bad-{secrets.token_hex(4)}"
    settings = Settings(
        data_dir=folder / prefix,
        amqp_url=url,
        amqp_prefix=prefix,
        api_keys=(SecretStr(KEY),),
        http_port=free_port(),
    )
    with ray_home(folder) as home, local_ray(home):
        installation = Installation(settings)
        asyncio.run(start_twins(installation))
        address = start_http(installation)
        try:
            return asyncio.run(run(installation, address, chosen.seed, chosen.count))
        finally:
            asyncio.run(stop_twins(installation))
            asyncio.run(clear_away(url, Names(prefix)))
            shutil.rmtree(settings.data_dir)  # half a gigabyte of letters


async def run(installation: Installation, address: str, seed: int, count: int) -> int:
    store, url = installation.store(), installation.settings.amqp_url
    assert url is not None
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=120) as http:
        speeds = Speeds(installation, store, http)
        with out.status("measuring before"):
            await speeds.measure()  # the first pays for what is loaded once
            before, memory_before = await speeds.measure(), memory()
        with out.status(f"{count} by HTTP"):
            ended = await by_http(http, seed, count)
        with out.status(f"{count} by AMQP"):
            ended += await by_amqp(url, Names(installation.settings.amqp_prefix), store, seed + 1, count)
            good = len(goods(count, "http")) + len(goods(count, "amqp"))
            stored = await stored_at_last(store, speeds.told + good) - speeds.told
        with out.status("measuring after"):
            await asyncio.sleep(5)
            memory_after, after = memory(), await speeds.measure()
    await store.close()
    _print_ended(ended)
    _print_before_and_after(before, after, memory_before, memory_after)
    growth = sum(memory_after.values()) / sum(memory_before.values())
    slower = {name: after[name] / before[name] for name in before}
    wrong = [one for one in ended if not one.right]
    verdict = {
        "told": len(ended),
        "wrong": len(wrong),
        "good": good,
        "good_taken": stored,
        "memory_ratio": round(growth, 3),
        "speed_ratio": {name: round(ratio, 3) for name, ratio in slower.items()},
    }
    ok = not wrong and stored == good and growth <= GROWTH_MAX and min(slower.values()) >= SLOWER_MAX
    sys.stdout.write(json.dumps({"ok": ok, **verdict}) + "\n")
    return 0 if ok else 1


class Speeds:
    """How many good events a second go in, by each way; each round tells new ones."""

    def __init__(self, installation: Installation, store: SqlStore, http: httpx.AsyncClient) -> None:
        self.told = 0
        self._installation = installation
        self._store = store
        self._http = http

    async def measure(self) -> dict[str, float]:
        """The best of some rounds: what else the machine does only ever slows one down."""
        rounds = [(await self._amqp(), await self._posts()) for _ in range(ROUNDS)]
        amqp, posts = zip(*rounds, strict=True)
        return {"AMQP, events/s": max(amqp), "HTTP, events/s": max(posts)}

    async def _amqp(self) -> float:
        """From the first publish to the last commit."""
        publisher = self._installation.publisher(None, self._store)  # type: ignore[arg-type]
        messages = [Publication(body) for body in self._events(ROUND_AMQP)]
        started = time.perf_counter()
        await publisher.publish(messages)
        await self._all_stored()
        elapsed = time.perf_counter() - started
        await publisher.close()
        return ROUND_AMQP / elapsed

    async def _posts(self) -> float:
        bodies = self._events(ROUND_HTTP)
        started = time.perf_counter()
        for start in range(0, len(bodies), TOGETHER):
            some = bodies[start : start + TOGETHER]
            await asyncio.gather(*(self._http.post("/v1/events", content=body) for body in some))
        elapsed = time.perf_counter() - started
        await self._all_stored()
        return ROUND_HTTP / elapsed

    def _events(self, many: int) -> list[bytes]:
        first, self.told = self.told, self.told + many
        return [json.dumps(good_event(f"speed-{number}")).encode() for number in range(first, self.told)]

    async def _all_stored(self) -> None:
        while sum((await self._store.arrivals()).values()) < self.told:
            await asyncio.sleep(0.05)


# --- memory ----------------------------------------------------------------------------------------------


def memory() -> dict[str, float]:
    """Resident megabytes of the watched processes that this one, or its Ray, has started."""
    parents = {
        int(folder.name): _parent(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()
    }
    found: dict[str, float] = {}
    for pid in parents:
        name = _command(pid)
        for watched in WATCHED:
            if watched in name and os.getpid() in _ancestors(pid, parents):
                found[watched] = found.get(watched, 0) + _resident_mb(pid)
    return found


def _ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while pid in parents and pid not in found:
        found.add(pid)
        pid = parents[pid]
    return found


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1_024
    return 0.0


# --- tables ----------------------------------------------------------------------------------------------


def _print_ended(ended: Sequence[Ended]) -> None:
    groups: dict[tuple[str, str], list[Ended]] = defaultdict(list)
    for one in ended:
        groups[one.kind, one.way.partition(" ")[0]].append(one)
    table = Table("kind", "way", "told", "ended as", "wrong", "a reason")
    for (kind, way), some in sorted(groups.items()):
        hows = ", ".join(sorted({one.how for one in some}))
        wrong = [one for one in some if not one.right]
        shown = (wrong or some)[0].reason
        table.add_row(kind, way, str(len(some)), hows, str(len(wrong) or ""), escape(shown[:REASON_SHOWN]))
    out.print(table)


def _print_before_and_after(
    before: dict[str, float],
    after: dict[str, float],
    memory_before: dict[str, float],
    memory_after: dict[str, float],
) -> None:
    table = Table("", "before", "after", "ratio")
    for name, was in memory_before.items():
        now = memory_after[name]
        table.add_row(f"{name}, MB", f"{was:,.0f}", f"{now:,.0f}", f"{now / was:.2f}")
    for name, was in before.items():
        table.add_row(name, f"{was:,.0f}", f"{after[name]:,.0f}", f"{after[name] / was:.2f}")
    out.print(table)


if __name__ == "__main__":
    sys.exit(main())
