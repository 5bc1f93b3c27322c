"""EasyPost tracker webhooks → canonical events.

Rules
- A tracker repeats its whole history each time. Each scan is an event of its own whose id is made from what
  it says, so a tracker sent again adds only the scans that are new.
- What a scan says must not change under one id: a scan that is told again with the signature, which comes
  later than the delivery, is another event, and another witness of the same milestone.

Setting of a connection that is read here: ``carrier.<theirs>`` (``carrier.UPSDAP`` = ``ups``); without it the
carrier's name in lower case, without spaces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import ValidationError

from adapters.easypost.models import Status, Tracker, TrackingDetail, tracker_in
from adapters.webhooks import read, rejected
from canonical import identity
from canonical.envelope import Event
from canonical.facts.tracking import Milestone, TrackingScanned
from canonical.identity import TwinRef, twin_ref
from canonical.translation import Connection, Inbound, Translation

MILESTONES: Mapping[Status, Milestone | None] = {
    Status.UNKNOWN: None,
    Status.PRE_TRANSIT: Milestone.PRE_TRANSIT,
    Status.IN_TRANSIT: Milestone.IN_TRANSIT,
    Status.OUT_FOR_DELIVERY: Milestone.OUT_FOR_DELIVERY,
    Status.AVAILABLE_FOR_PICKUP: Milestone.IN_TRANSIT,
    Status.DELIVERED: Milestone.DELIVERED,
    Status.RETURN_TO_SENDER: Milestone.RETURN_TO_SENDER,
    Status.FAILURE: Milestone.EXCEPTION,
    Status.ERROR: Milestone.EXCEPTION,
    Status.CANCELLED: None,
}
"""None: it says nothing of the parcel. One that waits at a counter is still with the carrier, on no round."""

FINAL = frozenset({Status.DELIVERED, Status.RETURN_TO_SENDER, Status.CANCELLED})
"""A parcel that got there is not delayed, whatever words go with it."""


def translate(message: Inbound, connection: Connection) -> Translation:
    """Read one webhook. Raises: RejectedMessage naming the field at fault."""
    tracker = tracker_in(read(message.body))
    if tracker is None:
        return Translation(())
    try:
        events = [_scanned(tracker, scan, connection) for scan in tracker.scans]
    except ValidationError as error:
        raise rejected(error) from None
    return Translation(tuple(event for event in events if event is not None))


def _scanned(tracker: Tracker, scan: TrackingDetail, connection: Connection) -> Event | None:
    milestone = _milestone(scan)
    if milestone is None:
        return None
    fact = TrackingScanned(
        milestone=milestone,
        message=scan.message,
        place=scan.tracking_location.place if scan.tracking_location else None,
        signed_by=tracker.signed_by if milestone is Milestone.DELIVERED else None,
    )
    subject = _subject(tracker, connection)
    event_id = f"{subject.key}/{scan.status}/{scan.datetime.isoformat()}/{_hash(fact)}"
    return Event(source=connection.source, id=event_id, subject=subject, time=scan.datetime, fact=fact)


def _milestone(scan: TrackingDetail) -> Milestone | None:
    late = scan.status not in FINAL and _says_delay(scan)
    return Milestone.DELAYED if late else MILESTONES[scan.status]


def _says_delay(scan: TrackingDetail) -> bool:
    """``status_detail`` has ``delayed`` and ``weather_delay``; many carriers say it in the message alone."""
    return any("delay" in told.lower() for told in (scan.status_detail, scan.message) if told)


def _subject(tracker: Tracker, connection: Connection) -> TwinRef:
    """``DHLExpress`` here is ``DHL Express`` elsewhere."""
    spelled = "".join(tracker.carrier.lower().split())
    carrier = connection.settings.get(f"carrier.{tracker.carrier}", spelled)
    return twin_ref(str(identity.tracking(carrier, tracker.tracking_code)))


def _hash(fact: TrackingScanned) -> str:
    return hashlib.sha256(fact.ADAPTER.dump_json(fact, exclude_defaults=True)).hexdigest()[:16]
