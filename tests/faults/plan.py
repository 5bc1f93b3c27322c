"""Which trouble strikes when: drawn from the seed, counted in events that were acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from random import Random


class Trouble(StrEnum):
    KILL_HOST = "kill a twin host"
    FREEZE_HOST = "freeze a twin host past its lease, and let it go on"
    KILL_INGEST = "kill ingest"
    KILL_GATEWAY = "kill the gateway"
    KILL_REPLICA = "kill a Serve replica"
    KILL_NODE = "kill the raylet of the second node"
    RESTART_BROKER = "kill RabbitMQ, start it again"
    RESTART_DATABASE = "kill PostgreSQL, start it again"
    DISK_FULL = "fill the data directory's quota"
    ERP_SLOW = "the ERP is slow"
    ERP_FAILS = "the ERP answers 503"
    ERP_SILENT = "the ERP posts and says nothing"


@dataclass(frozen=True, slots=True)
class Stroke:
    number: int
    after: int
    """Events that have been acknowledged by then."""
    trouble: Trouble


FIRST, LAST = 0.03, 0.9
"""Between which shares of the events trouble strikes: some must be taken before, and some after."""


def plan(seed: int, events: int, troubles: Sequence[Trouble]) -> list[Stroke]:
    """Every trouble once, hosts killed twice, in an order and at moments that the seed draws.

    Two strokes are at least a third of an even share apart: what the system recovered from should be known.
    """
    random = Random(f"faults-{seed}")
    drawn = [*troubles, Trouble.KILL_HOST]
    random.shuffle(drawn)
    apart = (LAST - FIRST) / len(drawn) / 3
    while True:
        moments = sorted(random.uniform(FIRST, LAST) for _ in drawn)
        if all(later - sooner >= apart for sooner, later in pairwise(moments)):
            break
    return [
        Stroke(number, round(moment * events), trouble)
        for number, (moment, trouble) in enumerate(zip(moments, drawn, strict=True), start=1)
    ]
