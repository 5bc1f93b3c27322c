"""Sending events to a running twinsync."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from adapters.amqp.publisher import AmqpPublisher
from canonical.envelope import BATCH, Event
from canonical.errors import RejectedMessage, TransientFailure
from twins.ports import Publication


def publish_to_http(url: str, key: str, body: bytes) -> None:
    """Raises: RejectedMessage as the service says; TransientFailure where it does not answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": BATCH}
    try:
        answer = httpx.post(f"{url}/v1/events", content=body, headers=headers, timeout=60)
    except httpx.HTTPError as error:
        raise TransientFailure(f"{url}: {error}") from error
    if answer.status_code >= 500 or answer.status_code == 429:
        raise TransientFailure(f"{url} answers {answer.status_code}: {answer.text}")
    if answer.status_code >= 400:
        told = answer.json()
        raise RejectedMessage(told.get("detail", answer.text), field=told.get("field", ""))


async def publish_to_broker(url: str, events: Sequence[Event]) -> None:
    """Returns when the broker has confirmed all of them. Raises: TransientFailure."""
    publisher = AmqpPublisher(url)
    try:
        await publisher.publish([Publication(event.structured()) for event in events])
    finally:
        await publisher.close()
