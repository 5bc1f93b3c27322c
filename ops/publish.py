"""Sending events to a running twinsync."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.amqp.publisher import AmqpPublisher
from canonical.envelope import Event
from twins.ports import Publication


async def publish_to_broker(url: str, events: Sequence[Event]) -> None:
    """Returns when the broker has confirmed all of them. Raises: TransientFailure."""
    publisher = AmqpPublisher(url)
    try:
        await publisher.publish([Publication(event.structured()) for event in events])
    finally:
        await publisher.close()
