"""A link to the broker says what became of it, and to whom."""

from __future__ import annotations

import asyncio

import pytest

from adapters.amqp.link import Link, Patience
from canonical.errors import TransientFailure


async def prepared(*_: object) -> str:
    return "exchange"


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link[str]:
    made = Link("amqp://127.0.0.1", prepared, Patience(publish_s=5))
    monkeypatch.setattr(made, "_open", prepared)
    return made


async def test_a_confirm_that_the_library_cancels_is_the_worlds_failure(link: Link[str]) -> None:
    """It gives up a connection on which nothing was heard, and cancels who waits, not their task."""
    confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    confirm.set_exception(asyncio.CancelledError())
    with pytest.raises(TransientFailure, match="given up"):
        async with link.opened():
            await asyncio.gather(confirm)


async def test_who_is_cancelled_is_cancelled(link: Link[str]) -> None:
    async def waits() -> None:
        async with link.opened():
            await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await waits()
