"""The parts of EasyPost's tracker webhooks that twinsync reads (API v2: Event, Tracker, TrackingDetail)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from adapters.webhooks import Many, MaybeText, Theirs, rejected
from canonical.errors import RejectedMessage
from canonical.types import Identifier, Occurred


def tracker_in(message: Mapping[str, Any]) -> Tracker | None:
    """The tracker of an Event, or a bare one. None for an Event about anything else: a webhook gets them all.

    Raises: RejectedMessage naming the field at fault.
    """
    if message.get("object") == "Event":
        return _result(message.get("result"))
    if message.get("object", "Tracker") != "Tracker":
        raise RejectedMessage(f"expected 'Event' or 'Tracker', got {message['object']!r}", field="object")
    return _tracker(message, "")


def _result(result: Any) -> Tracker | None:
    if not isinstance(result, dict):
        raise RejectedMessage("expected an object", field="result")
    return _tracker(result, "result.") if result.get("object", "Tracker") == "Tracker" else None


def _tracker(payload: Mapping[str, Any], path: str) -> Tracker:
    try:
        return Tracker.model_validate(payload)
    except ValidationError as error:
        raise rejected(error, path) from None


class Status(StrEnum):
    """Of a tracker and of each of its scans (EasyPost, Tracker object, ``status``)."""

    UNKNOWN = "unknown"
    PRE_TRANSIT = "pre_transit"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    AVAILABLE_FOR_PICKUP = "available_for_pickup"
    DELIVERED = "delivered"
    RETURN_TO_SENDER = "return_to_sender"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    ERROR = "error"


class TrackingLocation(Theirs):
    city: MaybeText = None
    state: MaybeText = None
    country: MaybeText = None

    @property
    def place(self) -> str | None:
        return ", ".join(part for part in (self.city, self.state, self.country) if part) or None


class TrackingDetail(Theirs):
    """One scan, as the carrier told it. Neither the list's order nor the envelope's dates order scans."""

    status: Status
    datetime: Occurred
    status_detail: MaybeText = None
    message: MaybeText = None
    tracking_location: TrackingLocation | None = None


class Tracker(Theirs):
    tracking_code: Identifier
    carrier: Identifier
    status: Status | None = None
    status_detail: MaybeText = None
    signed_by: MaybeText = None
    updated_at: Occurred | None = None
    tracking_details: Many[TrackingDetail] = ()

    @property
    def scans(self) -> tuple[TrackingDetail, ...]:
        """The details; for a tracker that has none, its own status as of its last update."""
        if self.tracking_details or self.status is None:
            return self.tracking_details
        if self.updated_at is None:
            raise RejectedMessage("missing, and there are no tracking_details", field="updated_at")
        scan = TrackingDetail(status=self.status, datetime=self.updated_at, status_detail=self.status_detail)
        return (scan,)
