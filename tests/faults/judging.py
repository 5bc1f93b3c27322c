"""What is left when the trouble is over, beside what should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import select

from adapters.sql.tables import events
from canonical.envelope import Event
from canonical.identity import twin_ref
from ops.demo.outcome import Outcome, differences
from ops.wiring import Installation
from tests.faults.plan import Trouble
from tests.faults.stage import engine
from tests.faults.strokes import Struck
from tests.faults.telling import Log

REPLY = "io.twinsync.erp.posting-"


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of history."""

    twin: str
    source: str
    id: str
    type: str
    time: datetime
    recorded_at: datetime

    @property
    def name(self) -> tuple[str, str]:
        return self.source, self.id


async def stored(installation: Installation) -> list[Stored]:
    wanted = select(*(events.c[name] for name in ("twin", "source", "id", "type", "time", "recorded_at")))
    opened = engine(installation)
    try:
        async with opened.connect() as connection:
            return [
                Stored(
                    row.twin,
                    row.source,
                    row.id,
                    row.type,
                    datetime.fromisoformat(row.time),
                    datetime.fromisoformat(row.recorded_at),
                )
                for row in await connection.execute(wanted)
            ]
    finally:
        await opened.dispose()


@dataclass(slots=True)
class Judgement:
    lost: list[tuple[str, str]] = field(default_factory=list)
    """Acknowledged, and in no twin's history."""
    doubled: list[tuple[str, str]] = field(default_factory=list)
    """In the history of a twin more than once, or of more than one twin."""
    strange: list[tuple[str, str]] = field(default_factory=list)
    """In a history, and nobody told it."""
    states: list[str] = field(default_factory=list)
    """Twins that differ from the undisturbed run."""
    postings: list[str] = field(default_factory=list)
    erp: list[str] = field(default_factory=list)
    """Keys for which the ERP does not hold exactly one live document."""
    balance: list[str] = field(default_factory=list)
    """Accounts whose net differs from the undisturbed run's."""
    dead_letters: int = 0

    @property
    def good(self) -> bool:
        return not any(getattr(self, name) for name in self.__slots__)


def judge(
    told: Sequence[Event], rows: Sequence[Stored], outcome: Outcome, undisturbed: Outcome, dead_letters: int
) -> Judgement:
    acknowledged = {(event.source, event.id) for event in told}
    histories: dict[tuple[str, str], int] = {}
    for row in rows:
        if not row.type.startswith(REPLY):
            histories[row.name] = histories.get(row.name, 0) + 1
    return Judgement(
        lost=sorted(acknowledged - histories.keys()),
        doubled=sorted(name for name, many in histories.items() if many > 1),
        strange=sorted(histories.keys() - acknowledged),
        states=differences(undisturbed.documents, outcome.documents),
        postings=differences(undisturbed.postings, outcome.postings),
        erp=outcome.erp_faults,
        balance=differences(_net(undisturbed), _net(outcome)),
        dead_letters=dead_letters,
    )


def _net(outcome: Outcome) -> dict[str, Any]:
    """Account → debit less credit: reversals raise both sides, and differ from run to run."""
    return {row.account: row.debit - row.credit for row in outcome.balance.rows if row.debit != row.credit}


# --- recovery --------------------------------------------------------------------------------------------


LASTING = frozenset(
    {
        Trouble.RESTART_BROKER,
        Trouble.RESTART_DATABASE,
        Trouble.DISK_FULL,
        Trouble.ERP_SLOW,
        Trouble.ERP_FAILS,
        Trouble.ERP_SILENT,
    }
)
"""Nothing can recover from these before they are over."""


def recovery_s(struck: Struck, rows: Iterable[Stored], log: Log, installation: Installation) -> float | None:
    """Seconds to the first commit that shows that what was struck works again; None: there was none.

    From the stroke, or from the end of what lasts. A host: the first commit of a twin of its own. The
    gateway and the ERP: the first reply given. All others: the first commit of an event that was published
    afterwards.
    """
    trouble = struck.stroke.trouble
    after = struck.over if trouble in LASTING and struck.over is not None else struck.at
    match trouble:
        case Trouble.KILL_HOST | Trouble.FREEZE_HOST:
            name, place = struck.on.split(",")[0], installation.placement
            found = [row for row in rows if place.host_of(twin_ref(row.twin)) == name]
        case Trouble.KILL_GATEWAY | Trouble.ERP_SLOW | Trouble.ERP_FAILS | Trouble.ERP_SILENT:
            found = [row for row in rows if row.type.startswith(REPLY) and row.time > after]
        case _:
            found = [row for row in rows if log.published.get(row.name, after) > after]
    commits = [row.recorded_at for row in found if row.recorded_at > after]
    return (min(commits) - after).total_seconds() if commits else None


LOOK_S = 15.0


def pause_s(struck: Struck, rows: Iterable[Stored]) -> float:
    """The longest time without any commit of an event, in the seconds after the stroke."""
    end = struck.at + timedelta(seconds=LOOK_S)
    moments = {row.recorded_at for row in rows if not row.type.startswith(REPLY)}
    commits = sorted({struck.at, *(moment for moment in moments if struck.at < moment <= end)})
    return max(((later - sooner).total_seconds() for sooner, later in pairwise(commits)), default=LOOK_S)
