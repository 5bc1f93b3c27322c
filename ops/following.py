"""Following a running twinsync: its changes, for as long as somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import sleep

import httpx
from httpx_sse import ServerSentEvent, SSEError, connect_sse

from canonical.errors import TransientFailure
from ops.asking import check
from twins.outage import waits

SILENT_S = 30.0
"""Twinsync says every ten seconds that it is there."""


def follow(
    url: str, key: str, wanted: Mapping[str, str], transport: httpx.BaseTransport | None = None
) -> Iterator[ServerSentEvent | TransientFailure]:
    """Events as they come; a failure each time that twinsync is away, after which it goes on where it was.

    Without end. Raises: RejectedMessage as the service says.
    """
    last_id, pauses = "", waits()
    ends_by_itself = False
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=SILENT_S, transport=transport) as client:
        while True:
            try:
                since = {"Last-Event-ID": last_id} if last_id else {}
                with connect_sse(
                    client, "GET", f"{url}/v1/changes", headers=headers | since, params=dict(wanted)
                ) as source:
                    if source.response.is_error:
                        source.response.read()
                    check(url, source.response)
                    ends_by_itself = False
                    for event in source.iter_sse():
                        ends_by_itself, last_id, pauses = True, event.id or last_id, waits()
                        yield event
            except (httpx.HTTPError, SSEError, TransientFailure) as error:
                ends_by_itself = False
                yield TransientFailure(f"{url}: {error}")
            if not ends_by_itself:
                sleep(next(pauses))
