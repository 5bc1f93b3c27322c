"""Acknowledgements out of order, against a broker that keeps to the letter of AMQP 0-9-1."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.amqp import acknowledging
from adapters.amqp.acknowledging import Acknowledging


@dataclass
class Channel:
    """What was delivered and not acknowledged; an unknown tag ends it."""

    open: set[int] = field(default_factory=set)
    taken: set[int] = field(default_factory=set)
    said: int = 0


@dataclass
class Message:
    channel: Channel
    tag: int

    async def acknowledge(self, *, multiple: bool = False) -> None:
        await asyncio.sleep(0)
        assert self.tag in self.channel.open, "PRECONDITION_FAILED: unknown delivery tag"
        through = {tag for tag in self.channel.open if tag < self.tag} if multiple else set()
        done = through | {self.tag}
        assert done <= self.channel.taken, "acknowledged before it was taken"
        self.channel.open -= done
        self.channel.said += 1

    async def give_back(self) -> None:
        await asyncio.sleep(0)
        self.channel.open.remove(self.tag)


@given(st.integers(0, 60), st.integers(0, 2**32), st.integers(0, 8))
async def test_whatever_the_order_each_is_settled_once_and_none_too_early(
    many: int, seed: int, ahead_max: int
) -> None:
    random, channel, settling = Random(seed), Channel(), Acknowledging()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(acknowledging, "AHEAD_MAX", ahead_max)
        waiting = [Message(channel, tag) for tag in range(1, many + 1)]
        for message in waiting:
            channel.open.add(message.tag)
            settling.delivered(message.tag)
        random.shuffle(waiting)
        under_way = []
        while waiting:
            batch, waiting = waiting[: (size := random.randint(1, 9))], waiting[size:]
            if random.random() < 0.1:
                under_way += [asyncio.create_task(settling.give_back(one)) for one in batch]  # type: ignore[arg-type]
            else:
                channel.taken |= {one.tag for one in batch}
                under_way.append(asyncio.create_task(settling.taken(batch)))  # type: ignore[arg-type]
            if random.random() < 0.5:
                await asyncio.sleep(0)
        await asyncio.gather(*under_way)
        await settling.all_taken()
    assert channel.open == set()


async def test_one_that_stays_open_costs_no_memory_for_those_after_it() -> None:
    many = 20 * acknowledging.AHEAD_MAX
    channel, settling = Channel(set(range(1, many + 1)), set(range(2, many + 1))), Acknowledging()
    for tag in range(1, many + 1):
        settling.delivered(tag)
    for tag in range(2, many + 1):
        await settling.taken([Message(channel, tag)])  # type: ignore[list-item]
    held = sum(len(kept) for kept in vars(settling).values() if hasattr(kept, "__len__"))
    assert held <= acknowledging.AHEAD_MAX + 2
    await settling.all_taken()
    assert channel.open == {1}


async def test_in_order_one_acknowledgement_stands_for_a_batch() -> None:
    channel, settling = Channel(set(range(1, 301)), set(range(1, 301))), Acknowledging()
    messages = [Message(channel, tag) for tag in range(1, 301)]
    for message in messages:
        settling.delivered(message.tag)
    for start in range(0, 300, 100):
        await settling.taken(messages[start : start + 100])  # type: ignore[arg-type]
    assert (channel.open, channel.said) == (set(), 3)
