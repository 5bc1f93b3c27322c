"""The demo's day is made of real formats, the same bytes for the same seed, and holds every case."""

from __future__ import annotations

from collections import Counter

import pytest

from canonical.translation import Inbound
from ops.demo.day import Message, in_order, make_day
from ops.demo.disorder import disorder
from ops.translators import TRANSLATORS

DAY = make_day(7, 120)


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert make_day(7, 120) == DAY
    assert make_day(8, 120) != DAY


def test_every_message_translates_and_tells_something() -> None:
    for message in DAY.messages:
        connection = DAY.connections[message.adapter, message.connection]
        told = TRANSLATORS[message.adapter](Inbound(message.body, message.headers), connection)
        assert told.events, message


def test_the_real_formats_carry_most_of_the_day() -> None:
    spoken = Counter(message.adapter for message in DAY.messages)
    assert spoken["shopify"] + spoken["easypost"] + spoken["x12"] > 2 * spoken["canonical"]


def test_a_small_day_still_has_rare_cases() -> None:
    assert len(make_day(1, 40).cases) == len(DAY.cases) == 16


@pytest.mark.parametrize("seed", range(3))
def test_disorder_loses_nothing_and_tells_a_fifth_twice(seed: int) -> None:
    messages = disorder(DAY, seed, duplicated=0.2, late=0.3)
    total = len(DAY.messages)
    assert len(messages) == total + round(0.2 * total)
    assert set(map(_key, messages)) == set(map(_key, DAY.messages))


def test_a_third_of_the_messages_come_after_later_ones() -> None:
    assert _overtaken(disorder(DAY, 1, duplicated=0, late=0.3)) > 0.25 * len(DAY.messages)
    assert _overtaken(disorder(DAY, 1, duplicated=0, late=0.0)) == 0


def _overtaken(messages: list[Message]) -> int:
    place = {_key(message): number for number, message in enumerate(in_order(DAY))}
    newest, late = -1, 0
    for message in messages:
        late += place[_key(message)] < newest
        newest = max(newest, place[_key(message)])
    return late


def _key(message: Message) -> tuple[str, bytes, str]:
    return message.connection, message.body, message.headers.get("x-shopify-topic", "")
