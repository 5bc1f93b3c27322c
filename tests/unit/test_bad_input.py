"""Every kind of malformed message, in both forms: refused, with a reason that names the field."""

from __future__ import annotations

import pytest

from canonical.envelope import STRUCTURED, check_not_ahead, parse
from canonical.errors import REASON_LENGTH_MAX, RejectedMessage
from tests.live.bad_input import KINDS, Bad, bad_input
from tests.world import DAY
from twins.ports import Publication, Rejected
from twins.runtime.ingest import _address

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


def test_no_message_breaks_the_way_to_its_host() -> None:
    for bad in BOTH:
        for message in forms(bad):
            address = _address(message)
            if isinstance(address, Rejected):
                assert bad.names(address.field), (address, message.body[:200])
