"""The pipe: RabbitMQ quorum queues → twins on Ray → SQLite with synchronous=FULL, committed before the ack.

Each round fills the queues with a day of orders, takes them with a bare consumer for comparison, fills them
again and lets the twins take them. Prints a table and one JSON line; times nothing but the taking.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from aio_pika import connect
from rich.console import Console
from rich.table import Table

from adapters.amqp.publisher import AmqpPublisher
from adapters.amqp.topology import Names, clear_away
from ops.demo.day import ANY_CLOCK_S, in_order, make_day
from ops.demo.telling import told_once
from ops.local import local_ray, ray_home, start_twins, stop_twins, total
from ops.settings import Settings
from ops.wiring import Installation
from tests.services import AMQP
from twins.ports import Publication

out = Console(stderr=True)
PREFETCH, ACK_EVERY = 2_000, 500


def events_of_a_day(orders: int) -> list[Publication]:
    """Each event of the day once, in order, as CloudEvents."""
    day = make_day(1, orders)
    return [Publication(event.structured()) for event in told_once(day, in_order(day))]


async def fill(url: str, prefix: str, messages: Sequence[Publication]) -> float:
    """Seconds that it took to publish all, confirmed."""
    publisher = AmqpPublisher(url, prefix=prefix)
    started = time.perf_counter()
    await publisher.publish(messages)
    await publisher.close()
    return time.perf_counter() - started


async def take_bare(url: str, prefix: str, many: int) -> float:
    """Seconds that a consumer takes which does nothing but acknowledge."""
    done, taken = asyncio.Event(), 0
    async with await connect(url) as connection:
        started = time.perf_counter()
        for name in (Names(prefix).ingest, Names(prefix).bulk):
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await channel.get_queue(name)
            left = queue.declaration_result.message_count or 0

            async def received(message: Any, left: list[int] = [left]) -> None:  # noqa: B006
                nonlocal taken
                taken += 1
                left[0] -= 1
                if left[0] % ACK_EVERY == 0:
                    await message.ack(multiple=True)
                if taken == many:
                    done.set()

            await queue.consume(received)
        await done.wait()
        return time.perf_counter() - started


async def take_with_twins(installation: Installation, many: int) -> tuple[float, dict[str, float]]:
    """Events a second from the first commit seen to the last, and the hosts' counts."""
    from twins.runtime import cluster

    await start_twins(installation)
    began: tuple[float, float] | None = None
    while True:
        counts = total(await cluster.metrics(installation))
        now, taken = time.perf_counter(), counts["events"] + counts["duplicates"]
        if began is None and taken:
            began = now, taken
        if taken >= many:
            break
        await asyncio.sleep(0.2)
    assert began is not None
    rate = (taken - began[1]) / (now - began[0])
    store = installation.store()
    stored = sum((await store.arrivals()).values())
    await store.close()
    await stop_twins(installation)
    if stored != many:
        raise SystemExit(f"{many} events were sent and {stored} are stored")
    return rate, counts


def run_round(url: str, folder: Path, messages: Sequence[Publication]) -> dict[str, float]:
    prefix, many = f"bench-{secrets.token_hex(4)}", len(messages)
    installation = Installation(
        Settings(
            data_dir=folder, database_url=None, amqp_url=url, amqp_prefix=prefix, ahead_max_s=ANY_CLOCK_S
        )
    )
    try:
        published_s = asyncio.run(fill(url, prefix, messages))
        bare_s = asyncio.run(take_bare(url, prefix, many))
        asyncio.run(fill(url, prefix, messages))
        rate, counts = asyncio.run(take_with_twins(installation, many))
    finally:
        asyncio.run(clear_away(url, Names(prefix)))
    return {
        "published_per_s": many / published_s,
        "bare_consumer_per_s": many / bare_s,
        "pipe_per_s": rate,
        "pipe_to_bare": rate * bare_s / many,
        "fold_s": counts["fold_s"],
        "commit_s": counts["commit_s"],
        "batches": counts["batches"],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--orders", type=int, default=2_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    url = os.environ.get(AMQP)
    if url is None:
        raise SystemExit(f"no RabbitMQ: run 'make bench', or set {AMQP}")
    with out.status("making a day"):
        messages = events_of_a_day(chosen.orders)
    found: list[dict[str, float]] = []
    folder = Path(".build/bench")
    with ray_home(folder) as home, local_ray(home):
        for number in range(chosen.rounds):
            with out.status(f"round {number + 1} of {chosen.rounds}: {len(messages)} events"):
                found.append(run_round(url, folder / secrets.token_hex(4), messages))
    medians = {name: median(one[name] for one in found) for name in found[0]}
    table = Table("", *(f"round {number + 1}" for number in range(len(found))), "median")
    for name, middle in medians.items():
        table.add_row(name, *(f"{one[name]:,.2f}" for one in found), f"{middle:,.2f}")
    out.print(table)
    sys.stdout.write(json.dumps({"events": len(messages), "rounds": len(found), **medians}) + "\n")


if __name__ == "__main__":
    main()
