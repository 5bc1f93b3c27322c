"""Every kind of malformed message, in both forms: refused, with a reason that names the field."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from canonical import envelope
from canonical.catalogue import CATALOGUE
from canonical.envelope import STRUCTURED, check_not_ahead, check_places, parse
from canonical.errors import REASON_LENGTH_MAX, RejectedMessage
from canonical.facts.order import InspectedLine
from canonical.identity import sku_and_location, twin_ref
from tests.live.bad_input import KINDS, Bad, bad_input
from tests.world import DAY
from twins.ports import Publication, Rejected
from twins.runtime.ingest import _address

EXTRA = "Extra inputs are not permitted"
BOTH = [*bad_input(1, 8 * len(KINDS))]


def refused(message: Publication) -> RejectedMessage:
    with pytest.raises(RejectedMessage) as refusal:
        check_not_ahead(parse(message.body, message.headers, message.content_type), DAY)
    return refusal.value


def forms(bad: Bad) -> list[Publication]:
    structured = Publication(bad.structured, {}, STRUCTURED)
    return [structured, Publication(bad.data, bad.headers, "application/json")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_it_is_refused_with_a_reason_that_names_the_field(kind: object) -> None:
    for bad in BOTH:
        if bad.kind is not kind:
            continue
        for message in forms(bad):
            why = refused(message)
            assert bad.names(why.field), (why, message.body[:200], message.headers)
            assert why.reason
            assert len(why.reason) <= REASON_LENGTH_MAX
            assert str(why).isprintable()


LINE = {"line_id": "1", "sku": "A", "quantity": 1, "unit_price": 1}


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        ({"currency": "USD", "lines": [LINE, LINE | {"colour": 1}]}, "data.lines.1.colour", EXTRA),
        ({"currency": "USD", "lines": [], "colour": 1, "size": 2}, "data.colour", f"{EXTRA} (and 1 more)"),
        (
            {"currency": "USD", "lines": [LINE | {"quantity": "few"}]},
            "data.lines.0.quantity",
            "Input should be a valid decimal",
        ),
        ({"lines": []}, "data.currency", "Field required"),
        ({"currency": "USD", "lines": [{}]}, "data.lines.0.line_id", "Field required (and 3 more)"),
        ([], "data", "Input should be a valid dictionary or instance of OrderPlaced"),
        (
            {"currency": "USD", "lines": [1]},
            "data.lines.0",
            "Input should be a valid dictionary or instance of OrderLine",
        ),
        ({"currency": "USD", "lines": [LINE, LINE]}, "data", "line '1' appears twice"),
    ],
)
def test_the_reason_says_what_is_wrong_with_the_data(data: object, field: str, reason: str) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "io.twinsync.order.placed.v1",
        "ce-source": "/oms",
        "ce-id": "1",
        "ce-subject": "order/SO-1",
        "ce-time": "2026-03-02T08:00:00Z",
    }
    why = refused(Publication(json.dumps(data).encode(), headers, "application/json"))
    assert (why.field, why.reason) == (field, reason)


GOODS = {"order_id": "SO-1", "line_id": "1", "sku": "A", "quantity": 1}
LOOKED_AT = {"line_id": "1", "quantity": 1, "disposition": "sellable", "location": "DC-1"}


@pytest.mark.parametrize(
    ("subject", "fact", "data", "field"),
    [
        ("order/1", "order.allocated", {"line_id": "1", "location": "DC@1", "quantity": 1}, "location"),
        ("order/1", "order.released", {"release_id": "R", "location": "@", "lines": []}, "location"),
        (
            "return/1",
            "order.return-inspected",
            {
                "return_id": "1",
                "inspection_id": "I",
                "lines": [LOOKED_AT, LOOKED_AT | {"location": "DC@1"}],
            },
            "lines.1.location",
        ),
        ("shipment/1", "shipment.created", {"location": "DC@1", "lines": [GOODS]}, "location"),
        ("shipment/1", "shipment.dispatched", {"location": "DC@1", "lines": [GOODS]}, "location"),
        (
            "stock/A@DC-1",
            "stock.transferred-out",
            {"transfer_id": "T", "to_location": "DC@1", "quantity": 1},
            "to_location",
        ),
        (
            "stock/A@DC-1",
            "stock.transferred-in",
            {"transfer_id": "T", "from_location": "DC@1", "quantity": 1},
            "from_location",
        ),
    ],
)
def test_a_location_that_would_name_another_shelf_is_refused(
    subject: str, fact: str, data: dict[str, object], field: str
) -> None:
    told = {
        "specversion": "1.0",
        "type": f"io.twinsync.{fact}.v1",
        "source": "/wms",
        "id": "1",
        "subject": subject,
        "time": "2026-03-02T08:00:00Z",
        "data": data,
    }
    event = parse(json.dumps(told).encode())
    with pytest.raises(RejectedMessage) as refusal:
        check_places(event)
    assert refusal.value.field == f"data.{field}"
    check_places(parse(json.dumps(told).replace("@1", "1").replace('"@"', '"DC"').encode()))


def test_every_fact_that_names_a_location_is_asked_for_it() -> None:
    def names_one(part: type[Any]) -> bool:
        told = {field.name: str(field.type) for field in fields(part)}
        return any("location" in name for name in told) or any(
            names_one(known) for known in (InspectedLine,) if known.__name__ in " ".join(told.values())
        )

    named = {found.model for found in CATALOGUE.values() if names_one(found.model)}
    assert named == envelope._PLACES.keys()


def test_an_sku_may_have_an_at() -> None:
    assert sku_and_location(twin_ref("stock/A@B@DC-1")) == ("A@B", "DC-1")


def test_no_message_breaks_the_way_to_its_host() -> None:
    for bad in BOTH:
        for message in forms(bad):
            address = _address(message)
            if isinstance(address, Rejected):
                assert bad.names(address.field), (address, message.body[:200])
