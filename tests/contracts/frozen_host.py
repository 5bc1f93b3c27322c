"""A host in a process of its own that freezes itself (SIGSTOP) as it commits. Run by `test_fencing`.

    python -m tests.contracts.frozen_host URL {before|within}

It takes one order; freezes before, or within, the transaction of the next; and takes orders until it is
fenced. Prints what became of each: taken, transient or fenced.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Sequence

from sqlalchemy import event

from adapters.sql.engine import Tuning
from adapters.sql.store import SqlStore
from canonical.errors import Fenced, TransientFailure
from ops.logs import set_up_logs
from tests.stories import placed
from tests.unit.test_host import Clock
from twins.core.batch import Effects
from twins.core.contributions import Contribution
from twins.core.placement import UNPLACED, Placement
from twins.core.rules import Policy
from twins.ports import Publication
from twins.runtime.host import TwinHost

TUNING = Tuning(lock_s=0.5, idle_in_transaction_s=1)


class FreezingStore(SqlStore):
    commits = 0
    where = ""

    async def commit(
        self,
        host: str,
        epoch: int,
        effects: Effects,
        delivered: Sequence[Contribution] = (),
        placement: Placement = UNPLACED,
    ) -> None:
        self.commits += 1
        if self.commits == 2:
            self.freeze()
        await super().commit(host, epoch, effects, delivered, placement)

    def freeze(self) -> None:
        if self.where == "before":
            stop()
            return

        @event.listens_for(self._committing.engine, "after_cursor_execute", once=True)
        def asserted(*_: object) -> None:  # the first statement holds the epoch
            stop()


def stop() -> None:
    """The whole process, before this thread goes on: told to the process, another may come to it later."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


async def main(url: str, where: str) -> None:
    set_up_logs("error")
    store = FreezingStore(url, tuning=TUNING)
    store.where = where
    host = TwinHost("host-0", store, Clock(), Policy())
    for number in range(1_000):
        message = Publication(placed(order=f"OLD-{number}").structured())
        try:
            await host.take([message])
        except TransientFailure:
            print("transient", flush=True)  # noqa: T201
        except Fenced:
            print("fenced", flush=True)  # noqa: T201
            break
        else:
            print("taken", flush=True)  # noqa: T201
        await asyncio.sleep(0.1)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
