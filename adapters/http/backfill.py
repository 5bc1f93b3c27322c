"""Asking a source again over HTTP: whoever speaks for it is told which numbers are missing."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from canonical.errors import TransientFailure
from twins.core.gaps import Gap

TIMEOUT_S = 10.0


class HttpBackfill:
    """Implements twins.ports.Backfill. A source is spoken for by the address of its longest known prefix."""

    def __init__(
        self, addresses: Mapping[str, str], *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """*addresses*: prefix of a source, such as ``/wms/``, → where to post its gaps."""
        self._addresses = addresses
        self._transport = transport

    async def ask(self, gap: Gap) -> bool:
        prefixes = [prefix for prefix in self._addresses if gap.source.startswith(prefix)]
        if not prefixes:
            return False
        address = self._addresses[max(prefixes, key=len)]
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_S, transport=self._transport) as client:
                answer = await client.post(address, json=request(gap))
        except httpx.HTTPError as error:
            raise TransientFailure(f"{address}: {error!r}") from error
        if not answer.is_success:  # a redirection is not followed: nobody was asked
            raise TransientFailure(f"{address} answered {answer.status_code}")
        return True


def request(gap: Gap) -> dict[str, str | int]:
    return {"source": gap.source, "first": gap.first, "last": gap.last, "since": gap.since.isoformat()}
