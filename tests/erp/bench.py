"""Tryton, and the means to trouble it, for the contract that every ERP connector keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

import pytest
from aiohttp import web

from adapters.tryton.client import TrytonClient
from adapters.tryton.connector import TrytonConnector, client_of
from adapters.tryton.models import TrytonSettings
from adapters.tryton.papers import ENTRY
from canonical.postings import Command
from ops.erp.server import TrytonServer
from tests.erp.line import Fate, Line, all_pass

PATIENCE_S = 10.0


@dataclass
class TrytonBench:
    """The last call of a telling is the one that posts: that is where answers are lost."""

    connector: TrytonConnector
    line: Line
    server: TrytonServer
    direct: TrytonClient

    async def refuse(self, command: Command) -> None:
        """The books of its month are closed."""
        day = command.posting.event_date
        around = [["start_date", "<=", day], ["end_date", ">=", day]]
        (period,) = await self.direct.search("account.period", around)
        await self.direct.act("account.period", period["id"], "close", company=1)

    async def lose_answers(self, *, hang: bool) -> None:
        self._when_posting(Fate.ANSWER_IS_LATE if hang else Fate.ANSWER_IS_LOST)

    async def answer_again(self) -> None:
        self.line.judge = all_pass

    async def fail_before_posting(self) -> None:
        self._when_posting(Fate.IS_LOST)

    async def answer_with_error_after_posting(self) -> None:
        self._when_posting(Fate.ANSWER_IS_AN_ERROR)

    async def live_documents(self) -> int:
        keys = [row["description"] for row in await self._entries("description")]
        undone = [key for key in keys if key.endswith("/reverse")]
        return len(keys) - 2 * len(undone)

    async def posting_dates(self) -> list[date]:
        return [row["date"] for row in await self._entries("date")]

    async def vanish(self) -> None:
        self.server.kill()

    async def _entries(self, field: str) -> list[dict[str, object]]:
        posted = [["description", "like", "%@%"], ["state", "=", "posted"]]
        return await self.direct.search(ENTRY, posted, field)

    def _when_posting(self, fate: Fate) -> None:
        async def judge(request: web.Request) -> Fate:
            return fate if request.path.endswith("/post") else Fate.PASSES

        self.line.judge = judge


@pytest.fixture
async def tryton_bench(tryton: TrytonSettings, tryton_server: TrytonServer) -> AsyncIterator[TrytonBench]:
    server, _, database = tryton.url.rpartition("/")
    direct = client_of(tryton)
    async with Line(server).open() as line:
        far = tryton.model_copy(update={"url": f"{line.url}/{database}", "timeout_s": PATIENCE_S})
        connector = TrytonConnector(far)
        yield TrytonBench(connector, line, tryton_server, direct)
        await connector.close()
        await direct.close()
