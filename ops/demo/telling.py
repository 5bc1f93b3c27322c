"""What a day's messages say, once the adapters have translated them."""

from __future__ import annotations

from collections.abc import Iterable

from canonical.envelope import Event
from canonical.translation import Inbound
from ops.demo.day import Day, Message
from ops.translators import TRANSLATORS


def told(day: Day, messages: Iterable[Message]) -> list[Event]:
    """Events as the messages tell them, repetitions included. Raises: RejectedMessage."""
    return [event for message in messages for event in _told(day, message)]


def told_once(day: Day, messages: Iterable[Message]) -> list[Event]:
    """Each event once, where it was told first."""
    return list({event.event_id: event for event in reversed(told(day, messages))}.values())[::-1]


def _told(day: Day, message: Message) -> tuple[Event, ...]:
    connection = day.connections[message.adapter, message.connection]
    return TRANSLATORS[message.adapter](Inbound(message.body, message.headers), connection).events
