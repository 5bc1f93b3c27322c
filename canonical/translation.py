"""What every adapter's ``translate`` takes and gives: theirs in, canonical events out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from canonical.envelope import Event


@dataclass(frozen=True, slots=True)
class Connection:
    """One external party behind an adapter: a shop, a trading partner, a carrier account.

    *settings* holds what the payloads leave out: ``company``, ``currency``, ``location`` (default
    location) and ``location.<theirs>`` (their location id → ours).
    """

    adapter: str
    name: str = "default"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """CloudEvents ``source`` of everything that comes through this connection."""
        return f"/{self.adapter}/{self.name}"

    def location(self, theirs: str | None) -> str | None:
        """Our id for their location; theirs where no mapping is set; the default where they name none."""
        if theirs is None:
            return self.settings.get("location")
        return self.settings.get(f"location.{theirs}", theirs)


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message as it came: the body untouched, header names in lower case."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Translation:
    """*acknowledgements* are replies in the partner's own format, such as an X12 997."""

    events: tuple[Event, ...]
    acknowledgements: tuple[bytes, ...] = ()


class Translate(Protocol):
    def __call__(self, message: Inbound, connection: Connection) -> Translation:
        """Raises: RejectedMessage naming the field or segment at fault, with nothing translated."""
        ...
