"""Files that nobody here wrote (../shared/samples/x12): all translate, but for the one that must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.x12.envelope import check, read
from adapters.x12.translate import acknowledge_refusal, translate
from canonical.errors import RejectedMessage
from canonical.translation import Inbound
from tests.unit.test_x12_partner import CONNECTION, SAMPLES, needs_samples, translated

BARE = replace(CONNECTION, settings={})

pytestmark = needs_samples


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("810.edi", []),
        ("850.edi", ["order.placed"]),
        ("856.edi", ["shipment.dispatched", "tracking.registered"]),
        ("940.edi", ["order.released", "shipment.created"]),
        ("997.edi", []),
    ],
)
def test_sample_translates_on_a_connection_without_settings(name: str, types: list[str]) -> None:
    events = translated((SAMPLES / name).read_bytes(), BARE)
    assert [event.type for event in events] == [f"io.twinsync.{one}.v1" for one in types]


@pytest.mark.parametrize("name", ["810.edi", "850.edi", "856.edi", "940.edi"])
def test_sample_is_acknowledged_with_a_sound_997(name: str) -> None:
    (answer,) = translate(Inbound((SAMPLES / name).read_bytes()), BARE).acknowledgements
    (found,) = read(answer)
    check(found)
    assert [one.id for one in found.sets] == ["997"]


def test_sample_997_is_not_acknowledged() -> None:
    assert translate(Inbound((SAMPLES / "997.edi").read_bytes()), BARE).acknowledgements == ()


def test_sample_with_a_wrong_count_is_refused_and_told_so() -> None:
    message = Inbound((SAMPLES / "940_bad_SE01.edi").read_bytes())
    with pytest.raises(RejectedMessage, match="SE01: SE01 says 12 segments, the set 20066 has 9"):
        translate(message, BARE)
    answer = acknowledge_refusal(message, BARE)
    assert answer is not None
    (found,) = read(answer)
    check(found)
    (told,) = found.sets
    assert [(one.id, *one.elements) for one in told.body] == [
        ("AK1", "OW", "9221"),
        ("AK2", "940", "20066"),
        ("AK5", "R", "4"),
        ("AK9", "R", "1", "1", "0"),
    ]
