"""Tracker webhooks as EasyPost sends them: each repeats every scan so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

CARRIER = "UPS"


class Scan(NamedTuple):
    status: str
    message: str
    at: datetime
    city: str


def tracker_body(tracking_number: str, scans: Sequence[Scan], signed_by: str | None = None) -> bytes:
    """*signed_by* comes with the delivery."""
    last = scans[-1]
    tracker = {
        "id": f"trk_{tracking_number.lower()}",
        "object": "Tracker",
        "mode": "test",
        "tracking_code": tracking_number,
        "carrier": CARRIER,
        "status": last.status,
        "updated_at": _moment(last.at),
        "signed_by": signed_by,
        "tracking_details": [
            {
                "object": "TrackingDetail",
                "message": scan.message,
                "status": scan.status,
                "datetime": _moment(scan.at),
                "tracking_location": {"city": scan.city, "country": "US"},
            }
            for scan in scans
        ],
    }
    event = {
        "id": f"evt_{tracking_number.lower()}_{len(scans)}",
        "object": "Event",
        "description": "tracker.updated",
        "created_at": _moment(last.at),
        "result": tracker,
    }
    return json.dumps(event, separators=(",", ":")).encode()


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
