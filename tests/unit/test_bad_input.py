"""Every kind of malformed message, in both forms: refused, with a reason that names the field."""

from __future__ import annotations

import json

import pytest

from canonical.envelope import STRUCTURED, check_not_ahead, parse
from canonical.errors import REASON_LENGTH_MAX, RejectedMessage
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


def test_no_message_breaks_the_way_to_its_host() -> None:
    for bad in BOTH:
        for message in forms(bad):
            address = _address(message)
            if isinstance(address, Rejected):
                assert bad.names(address.field), (address, message.body[:200])
