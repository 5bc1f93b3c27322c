"""What a transaction of the store takes however little it holds, and what each letter adds that it takes in.

Nothing else runs meanwhile, so that these are times of the store and its database alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from adapters.sql.store import SqlStore
from canonical.identity import TwinRef, order, shipment
from twins.core.batch import Effects
from twins.core.contributions import INTEREST, Contribution

FEW, MANY = 50, 450
TIMES = 15


@dataclass(frozen=True, slots=True)
class Commits:
    """Medians, in µs of the clock on the wall."""

    one_row_us: float
    """A transaction of one row."""
    letter_us: float
    """One contribution taken out of the mail, beside others."""


async def measure_commits(database_url: str, times: int = TIMES) -> Commits:
    """*database_url*: of an empty database."""
    store = SqlStore(database_url)
    try:
        await store.migrate()
        sender, taker = await store.claim("sender"), await store.claim("taker")

        async def seconds(effects: Effects, taken: list[Contribution]) -> float:
            began = time.perf_counter()
            await store.commit("taker", taker, effects, taken)
            return time.perf_counter() - began

        async def taking(many: int) -> float:
            letters = _letters(many)
            await store.commit("sender", sender, Effects(mail=_by_place(letters)), ())
            return await seconds(Effects(), letters)

        rows = [await seconds(Effects(registers=_by_place([one])), []) for one in _letters(times)]
        few, many = [[await taking(size) for _ in range(times)] for size in (FEW, MANY)]
        return Commits(median(rows) * 1e6, max(median(many) - median(few), 0.0) / (MANY - FEW) * 1e6)
    finally:
        await store.close()


def _letters(many: int) -> list[Contribution]:
    return [
        Contribution(order(f"SO-{number}"), shipment(f"SHP-{number}"), 1, INTEREST) for number in range(many)
    ]


def _by_place(letters: Sequence[Contribution]) -> dict[tuple[TwinRef, TwinRef], Contribution]:
    return {(one.target, one.source): one for one in letters}
