"""A trading partner that writes sound interchanges, for the other tests; and that they are sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.x12.envelope import check, read
from adapters.x12.tokens import Delimiters
from adapters.x12.translate import translate
from canonical.envelope import Event, parse_structured
from canonical.translation import Connection, Inbound

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "x12"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"real payloads are not beside the repository: no {SAMPLES}"
)

CONNECTION = Connection("x12", "acme", {"location": "DC-01"})
FUNCTIONAL_IDS = {
    "214": "QM",
    "810": "IN",
    "846": "IB",
    "850": "PO",
    "856": "SH",
    "940": "OW",
    "944": "RE",
    "945": "SW",
    "997": "FA",
}
SSCC = "106141411234567897"
"""GS1 General Specifications, 7.9: the example of a check digit."""

ORDER_850 = """
BEG*00*SA*PO-77**20260301
CUR*BY*USD
DTM*010*20260305*1200
DTM*002*20260310
N1*BY*XYZ Retail*92*CUST-9
PO1*1*10*EA*20**VN*SKU-1
PID*F****Blue widget
PO1*2*4*CA*7.5**UP*012345678905*VN*SKU-2
CTT*2
"""
SHIPMENT_856 = f"""
BSN*00*SHP-7*20260302*093000*0001
HL*1**S
TD5**2*UPSN*M*GROUND
DTM*011*20260302
N1*SF*Warehouse*92*WH-EAST
HL*2*1*O
PRF*PO-77
HL*3*2*T
MAN*GM*00{SSCC}
HL*4*3*P
MAN*CP*1Z999AA10123456784
HL*5*4*I
LIN*1*VN*SKU-1
SN1**6*EA
HL*6*3*I
LIN*2*VN*SKU-2
SN1**4*CA
CTT*6
"""
WAREHOUSE_940 = """
W05*N*PO-77*CUST-PO**SHP-7
N1*WH*East*92*WH-EAST
LX*1
W01*10*EA**VN*SKU-1
N9*LI*1
LX*2
W01*4*CA*012345678905*UP*012345678905*VN*SKU-2
W76*14
"""
WAREHOUSE_945 = f"""
W06*F*PO-77*20260302*SHP-7
N1*WH*East*92*WH-EAST
N9*2I*1Z999AA10123456784
G62*11*20260302*8*1415
W27*M*UPSN*Ground
G72*504*06******1250
LX*1
MAN*GM*00{SSCC}
W12*CC*10*10*0*EA**VN*SKU-1
N9*LI*1
LX*2
W12*CP*4*3*1*CA**VN*SKU-2
W03*13
"""
STOCK_846 = """
BIA*00*DD*INV-9*20260303*0600
N1*WH*East*92*WH-EAST
LIN*1*VN*SKU-1
QTY*17*90*EA
LIN*2*VN*SKU-2
QTY*17*3*CA
QTY*33*1*CA
"""
RECEIPT_944 = """
W17*F*20260304*RCV-1*PO-5
N1*WH*East*92*WH-EAST
W07*100*EA**VN*SKU-1
W13*4*EA*01**DM
W07*50*EA**VN*SKU-1
"""
INVOICE_810 = """
BIG*20260305*INV-3
REF*CN*1Z999AA10123456784
REF*2I*1Z999AA10123456785
CAD*M***UPSN
SAC*C*D240***1301
TDS*1301
"""
MESSAGES = {
    "810": INVOICE_810,
    "846": STOCK_846,
    "850": ORDER_850,
    "856": SHIPMENT_856,
    "940": WAREHOUSE_940,
    "944": RECEIPT_944,
    "945": WAREHOUSE_945,
}


def segments(text: str) -> list[list[str]]:
    return [line.split("*") for line in text.strip().splitlines()]


def interchange(
    *sets: tuple[str, Sequence[Sequence[str]]],
    delimiters: Delimiters | None = None,
    control: str = "000000123",
    sent: tuple[str, str] = ("20260302", "1500"),
    release: str = "00401",
    ta1: str = "0",
    encoding: str = "utf-8",
) -> bytes:
    """An interchange with one group a set, all control numbers derived from *control*."""
    marks = delimiters or Delimiters()
    day, hour = sent
    head = ["00", " " * 10, "00", " " * 10, "ZZ", "ACME".ljust(15), "ZZ", "TWINSYNC".ljust(15)]
    head += [day[2:], hour, marks.repetition or "U", release, control, ta1, "P", marks.component]
    written: list[Sequence[str]] = [["ISA", *head]]
    for number, (set_id, body) in enumerate(sets, start=1):
        group, name = f"{int(control)}{number}", f"{int(control) % 1000}{number:04}"
        written.append(
            ["GS", FUNCTIONAL_IDS.get(set_id, "ZZ"), "ACME", "TWINSYNC", day, hour, group, "X", "004010"]
        )
        written += [["ST", set_id, name], *body, ["SE", str(len(body) + 2), name], ["GE", "1", group]]
    written.append(["IEA", str(len(sets)), control])
    return marks.join(written).encode(encoding)


def message(set_id: str, text: str | None = None, **options: object) -> bytes:
    body = segments(MESSAGES[set_id] if text is None else text)
    return interchange((set_id, body), **options)  # type: ignore[arg-type]


def translated(body: bytes, connection: Connection = CONNECTION) -> tuple[Event, ...]:
    """Events, each of which survives the CloudEvents envelope."""
    events = translate(Inbound(body), connection).events
    for event in events:
        assert parse_structured(event.structured()) == event
    return events


def facts(set_id: str, text: str | None = None, connection: Connection = CONNECTION) -> list[object]:
    return [event.fact for event in translated(message(set_id, text), connection)]


def test_what_the_partner_writes_passes_the_envelope_checks() -> None:
    body = interchange(*((set_id, segments(text)) for set_id, text in MESSAGES.items()))
    (found,) = read(body)
    check(found)
    assert [one.id for one in found.sets] == list(MESSAGES)


@pytest.mark.parametrize("set_id", MESSAGES)
def test_every_message_of_the_partner_has_something_to_say(set_id: str) -> None:
    assert translated(message(set_id))
