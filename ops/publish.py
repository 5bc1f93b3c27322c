"""Sending events to a running twinsync."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.amqp.publisher import AmqpPublisher
from canonical.envelope import Event
from twins.ports import Publication


async def publish_to_broker(url: str, events: Sequence[Event], prefix: str) -> None:
    """To ``<prefix>.events``; returns when the broker has confirmed all of them. Raises: TransientFailure."""
    publisher = AmqpPublisher(url, prefix=prefix)
    try:
        await publisher.publish([Publication(event.structured()) for event in events])
    finally:
        await publisher.close()
