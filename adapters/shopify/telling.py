"""Who speaks through a webhook and when: what every reader needs to turn a payload into events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from canonical.envelope import Event
from canonical.facts.base import Fact
from canonical.identity import TwinRef, twin_ref
from canonical.translation import Connection

DEFAULT_LOCATION = "default"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Telling:
    """Whose words these are, and when Shopify said them, as far as the headers tell."""

    connection: Connection
    triggered_at: datetime | None

    def event(self, event_id: str, subject: TwinRef, time: datetime, fact: Fact) -> Event:
        source = self.connection.source
        return Event(source=source, id=event_id, subject=twin_ref(str(subject)), time=time, fact=fact)

    def location(self, location_id: str | None) -> str:
        return self.connection.location(location_id) or DEFAULT_LOCATION

    def carrier(self, company: str | None) -> str | None:
        """None: whatever tracking numbers there are name no parcel, since carriers share numbers."""
        settings = self.connection.settings
        if company is None:
            return settings.get("carrier")
        return settings.get(f"carrier.{company}", "".join(company.lower().split()))


def revision(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)
