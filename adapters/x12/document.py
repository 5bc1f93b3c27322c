"""One transaction set with what its group and its connection add, and the way from it to canonical events.

Settings of a connection that are read here:

- ``sku_qualifiers``: which product id is our SKU, best first (``UP,VN``; element 235). Then nothing else is
  taken; without the setting `SKU_QUALIFIERS` holds.
- ``location`` and ``location.<theirs>``: see `Connection.location`.
- ``order_prefix``: what goes before each order number of theirs in our id, where another partner may have the
  same numbers (``globex:`` makes ``globex:PO-77``). Whoever else tells of the order must tell that id.
- ``releases``: types of order (BEG02, PRF07; element 92) whose release number is part of the order's id:
  ``PO-77:3``. `RELEASES` where it is not set; none where it is empty.
- ``order_types``: types that are no orders by the standard (`order_850.NO_ORDERS`), but with this partner.
- ``carrier.<SCAC>``: our carrier for their code (``carrier.UPSN`` = ``ups``); without it the code in lower
  case, without spaces.
- ``carrier``: for messages that name none.
- ``currency``: for messages that name none; ``USD`` where it is not set.
- ``company``: legal entity that sells; chooses the ERP instance.
- ``timezone``: IANA name of the zone that their dates and times are in, where no time code says another;
  ``UTC`` where it is not set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, tzinfo
from typing import TypeVar
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from adapters.x12 import zones
from adapters.x12.segments import INVALID_DATE, Segment, first, missing
from canonical import units
from canonical.envelope import AT_IN_LOCATION, Event
from canonical.errors import RejectedMessage
from canonical.facts.base import Fact, Part
from canonical.facts.shipment import ShipmentDispatched
from canonical.facts.tracking import TrackingRegistered
from canonical.identity import TwinRef, tracking, twin_ref
from canonical.translation import Connection
from canonical.types import EARLIEST, Identifier

M = TypeVar("M", bound=Part)

SKU_QUALIFIERS = ("VN", "VP", "SK", "BP", "UP", "EN", "CB", "IN", "UK", "UA", "UI", "PI", "PN", "MG")
"""Element 235, best first: the vendor's number, the SKU, the buyer's number, then GTINs and catalogues."""
RELEASES = "RL,RA,CR"
"""Element 92: release or delivery order, release against assortment, change to release."""
UPC_CASE_CODE = "UA"
"""Qualifier that stands for element 438, a U.P.C. case code written without one (W0103, W1206, W0703)."""
TRACKING_NUMBER = ("CN", "2I")
"""Element 128 in REF01 and N901: the carrier's (PRO) number, the tracking number."""
LINE_ITEM = "LI"
"""Element 128: the line of the order that a line answers."""
END_OF_DAY = time(23, 59, 59)

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)
_DIGEST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Document:
    set_id: str
    segments: tuple[Segment, ...]
    """What stands between ST and SE."""
    group: Segment
    """The GS: functional group header."""
    connection: Connection

    # --- identity ----------------------------------------------------------------------------------------

    def event(self, key: str, subject: TwinRef, at: datetime, fact: Fact) -> Event:
        """An event whose id is the document, the fact, and a digest of all that it says.

        Control numbers take no part: the same document sent again, in any interchange, is the same event,
        and a corrected one is another. *key* is what the partner calls the document.
        """
        twin_ref(str(subject))
        bare = Event(source=self.connection.source, id="", subject=subject, time=at, fact=fact)
        name = fact.TYPE.removeprefix("io.twinsync.").rpartition(".v")[0]
        return replace(bare, id=f"{self.set_id}/{key}/{name}/{bare.digest().hex()[:_DIGEST_LENGTH]}")

    def tracked(self, key: str, at: datetime, dispatched: ShipmentDispatched) -> Iterator[Event]:
        """Each tracking number bound to the shipment *key*."""
        for number in dispatched.tracking_numbers if dispatched.carrier else ():
            subject = tracking(dispatched.carrier or "", number)
            yield self.event(key, subject, at, TrackingRegistered(shipment_id=key))

    def listed(self, setting: str, default: str = "") -> tuple[str, ...]:
        """The codes that a setting names, with commas between."""
        codes = self.connection.settings.get(setting, default).split(",")
        return tuple(code.strip() for code in codes if code.strip())

    def order_id(self, segment: Segment, number: int, release: int = 0) -> str:
        """Our id of the order that an element numbers, with the element of its release where that counts."""
        said = segment.text(number)
        if release and segment[release]:
            said = f"{said}:{segment[release]}"
        return identifier(self.connection.settings.get("order_prefix", "") + said, segment, number)

    # --- time --------------------------------------------------------------------------------------------

    @property
    def zone(self) -> tzinfo:
        name = self.connection.settings.get("timezone", "UTC")
        if name == "UTC":
            return UTC
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise RejectedMessage(f"{name!r} is no IANA time zone", field="settings.timezone") from None

    def moment(self, day: date, at: time | None = None, zone: tzinfo | None = None) -> datetime:
        """A date and time of theirs in UTC; midnight where they give no time, in their zone unless told."""
        try:
            moment = datetime.combine(day, at or time(), tzinfo=zone or self.zone).astimezone(UTC)
        except OverflowError:
            raise RejectedMessage(f"{day} is out of range", field=self.set_id) from None
        if moment < EARLIEST:
            raise RejectedMessage(f"{day} is before {EARLIEST.year}", field=self.set_id)
        return moment

    def told(self, segment: Segment, day: int, at: int, code: int, otherwise: time | None = None) -> datetime:
        """The moment that three elements tell: date, time and time code.

        *otherwise*: the time where they give none. Raises: RefusedSet naming the element.
        """
        on, hour, zone = segment.date(day), segment.time(at), zones.zone(segment, code) or self.zone
        try:
            return self.moment(on, hour or otherwise, zone)
        except RejectedMessage as refusal:
            raise segment.refuse(refusal.reason, day, INVALID_DATE) from None

    def sent_at(self) -> datetime:
        """When the group was made: GS04 and GS05."""
        return self.moment(self.group.date(4), self.group.time(5))

    def sent_on(self, day: date, otherwise: time | None = None) -> datetime:
        """*day*, and the time of the group where it was made on that same day.

        *otherwise*: the time of a group of another day, which may be the same document sent again. For goods
        it is the end of the day, so that the first telling, which knows better, comes first.
        """
        same_day = _is_date(self.group, 4) and self.group.date(4) == day
        return self.moment(day, self.group.time(5) if same_day else otherwise)

    # --- what segments name ------------------------------------------------------------------------------

    def sku(self, segment: Segment, pairs: Iterable[tuple[str, str]]) -> str:
        """The product id with the best qualifier. Raises: RefusedSet naming those that are there."""
        known = dict(reversed(list(pairs)))
        setting = self.connection.settings.get("sku_qualifiers")
        wanted = tuple(part.strip() for part in setting.split(",")) if setting else SKU_QUALIFIERS
        found = next((known[qualifier] for qualifier in wanted if qualifier in known), None)
        if found is None:
            has = ", ".join(sorted(known)) or "none"
            raise segment.refuse(f"no product id with qualifier {', '.join(wanted)}; it has {has}")
        return identifier(found, segment)

    def location(self, segments: Iterable[Segment], *roles: str) -> str:
        """Our location for the first party of *roles* (element 98), or the connection's own."""
        party = first(segments, "N1", *roles)
        theirs = (party[4] or party[2] or None) if party is not None else None
        ours = self.connection.location(theirs)
        if ours is None:
            wanted = " or ".join(f"N1*{role}" for role in roles)
            raise missing("N1", f"no {wanted} with an id or a name, and the connection sets no location")
        if "@" in ours:
            if party is None:
                raise RejectedMessage(AT_IN_LOCATION, field="settings.location")
            raise party.refuse(AT_IN_LOCATION, 4 if party[4] else 2)
        return identifier(ours, party) if party is not None else ours

    def carrier(self, code: str) -> str | None:
        """Our carrier for a SCAC (element 140); the connection's own where *code* is empty."""
        settings = self.connection.settings
        if not code:
            return settings.get("carrier")
        return settings.get(f"carrier.{code}", "".join(code.lower().split()))

    def currency(self) -> str:
        named = first(self.segments, "CUR")
        default = self.connection.settings.get("currency", "USD")
        return (named[2] or default) if named is not None else default

    @property
    def company(self) -> str:
        return self.connection.settings.get("company", "main")


def _is_date(segment: Segment, number: int) -> bool:
    try:
        segment.date(number)
    except RejectedMessage:
        return False
    return True


def identifier(text: str, segment: Segment, element: int = 0) -> str:
    """Check what becomes a key or a part of one. Raises: RefusedSet."""
    try:
        return _IDENTIFIER.validate_python(text)
    except ValidationError:
        raise segment.refuse("expected an identifier of 1 to 128 printable characters", element) from None


def key(segment: Segment, element: int) -> str:
    """A mandatory element that names a twin. Raises: RefusedSet."""
    return identifier(segment.text(element), segment, element)


def unit(code: str) -> str:
    """Element 355 as UN/ECE Rec 20; each where none is given."""
    return units.from_x12(code) if code else units.EACH


class OneUnit:
    """Refuses to add up what is told in two units: how many of one make the other, nobody says."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def check(self, what: str, segment: Segment, element: int) -> None:
        """*element* has the unit (355) of a quantity of *what*. Raises: RefusedSet naming it."""
        code = segment[element] or units.EACH
        known = self._codes.setdefault(what, code)
        if code != known:
            told = f"{code}, where {what} was told in {known}: the sender must tell both in one unit"
            raise segment.refuse(told, element)


def case_code(segment: Segment, element: int) -> Iterator[tuple[str, str]]:
    if segment[element]:
        yield UPC_CASE_CODE, segment[element]


def built(model: type[M], segment: Segment, elements: Mapping[str, int], **values: object) -> M:
    """Make a fact or a part of one; *elements* says which element each field came from.

    Raises: RefusedSet naming that element, or the segment.
    """
    try:
        return model(**values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = str(found["loc"][0]) if found["loc"] else ""
        element = elements.get(field, 0)
        reason = found["msg"] if element or not field else f"{field}: {found['msg']}"
        raise segment.refuse(reason, element) from None


def line_reference(segments: Iterable[Segment]) -> str | None:
    """The order line that N9*LI or REF*LI names."""
    found = first(segments, "N9", LINE_ITEM) or first(segments, "REF", LINE_ITEM)
    return (found[2] or None) if found is not None else None


def tracking_numbers(segments: Iterable[Segment]) -> tuple[str, ...]:
    """What REF and N9 call a tracking number, each once, in the order given."""
    found = {
        identifier(segment[2], segment, 2): None
        for segment in segments
        if segment.id in ("REF", "N9") and segment[1] in TRACKING_NUMBER and segment[2]
    }
    return tuple(found)
