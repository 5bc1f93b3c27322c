"""Interchanges as warehouses write them: X12 004010, one transaction set each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from biip.checksums import gs1_standard_check_digit

from ops.demo.goods import Parcel, Pick, SoldLine

SCAC = "UPSN"
_GROUPS = {"846": "IB", "856": "SH", "940": "OW", "945": "SW", "944": "RE"}
"""Transaction set → functional identifier code (element 479)."""
_COMPANY_PREFIX = "10614141"
"""The one of GS1's examples."""

Segment = list[str]


def release(order_id: str, shipment_id: str, location: str, picks: Sequence[Pick], at: datetime) -> bytes:
    """940: ship this."""
    return _set("940", at, _order("N", order_id, shipment_id, location, picks))


def cancel(order_id: str, shipment_id: str, location: str, picks: Sequence[Pick], at: datetime) -> bytes:
    """940 with W0501 = F: do not ship it after all."""
    return _set("940", at, _order("F", order_id, shipment_id, location, picks))


def _order(
    status: str, order_id: str, shipment_id: str, location: str, picks: Sequence[Pick]
) -> list[Segment]:
    body = [["W05", status, order_id, order_id, "", shipment_id], ["N1", "WH", "Warehouse", "92", location]]
    for number, pick in enumerate(picks, start=1):
        body += [
            ["LX", str(number)],
            ["W01", str(pick.asked), "EA", "", "VN", pick.line.sku],
            ["N9", "LI", pick.line.line_id],
        ]
    return [*body, ["W76", str(sum(pick.asked for pick in picks))]]


def advice(parcel: Parcel, serial: int) -> bytes:
    """945: what was taken, packed and handed to the carrier."""
    left = parcel.left_at
    body = [
        ["W06", "F", parcel.order_id, f"{left:%Y%m%d}", parcel.shipment_id],
        ["N1", "WH", "Warehouse", "92", parcel.location],
        ["N9", "2I", parcel.tracking_number],
        ["G62", "11", f"{left:%Y%m%d}", "8", f"{left:%H%M%S}"],
        ["W27", "M", SCAC, "Ground"],
        ["G72", "504", "06", "", "", "", "", "", str(int(parcel.cost * 100))],
        ["LX", "1"],
        ["MAN", "GM", f"00{_sscc(serial)}"],
    ]
    for pick in parcel.picks:
        body += [_taken(pick), ["N9", "LI", pick.line.line_id]]
    return _set("945", left, [*body, ["W03", str(sum(pick.taken for pick in parcel.picks))]])


def _taken(pick: Pick) -> Segment:
    status = "IS" if pick.is_substitute else "CP" if pick.taken < pick.asked else "CC"
    counts = [str(pick.asked), str(pick.taken), str(pick.asked - pick.taken), "EA"]
    taken: Segment = ["W12", status, *counts, "", "VN", pick.sku]
    if pick.is_substitute:
        taken += [*[""] * 8, "VN", pick.line.sku, "18"]
    return taken


def ship_notice(parcel: Parcel, serial: int) -> bytes:
    """856: the same goods as the receiver is told of them."""
    left = parcel.left_at
    body = [
        ["BSN", "00", parcel.shipment_id, f"{left:%Y%m%d}", f"{left:%H%M%S}", "0001"],
        ["HL", "1", "", "S"],
        ["TD5", "", "2", SCAC, "M", "GROUND"],
        ["REF", "2I", parcel.tracking_number],
        ["DTM", "011", f"{left:%Y%m%d}", f"{left:%H%M%S}"],
        ["N1", "SF", "Warehouse", "92", parcel.location],
        ["HL", "2", "1", "O"],
        ["PRF", parcel.order_id],
        ["HL", "3", "2", "P"],
        ["MAN", "GM", f"00{_sscc(serial)}"],
    ]
    for number, pick in enumerate(parcel.taken, start=4):
        body += [
            ["HL", str(number), "3", "I"],
            ["LIN", str(number - 3), "VN", pick.sku],
            ["SN1", "", str(pick.taken), "EA"],
            ["REF", "LI", pick.line.line_id],
        ]
    return _set("856", left, [*body, ["CTT", str(3 + len(parcel.taken))]])


def withdrawal(shipment_id: str, at: datetime) -> bytes:
    """856 with BSN01 = 01: the shipment did not happen."""
    body = [
        ["BSN", "01", shipment_id, f"{at:%Y%m%d}", f"{at:%H%M%S}", "0001"],
        ["HL", "1", "", "S"],
        ["CTT", "1"],
    ]
    return _set("856", at, body)


def counted(count_id: str, location: str, quantities: Mapping[str, int], at: datetime) -> bytes:
    """846: what was found on the shelves."""
    body = [
        ["BIA", "00", "DD", count_id, f"{at:%Y%m%d}", f"{at:%H%M%S}"],
        ["N1", "WH", "Warehouse", "92", location],
    ]
    for number, (sku, quantity) in enumerate(quantities.items(), start=1):
        body += [["LIN", str(number), "VN", sku], ["QTY", "17", str(quantity), "EA"]]
    return _set("846", at, body)


def received(receipt_id: str, location: str, quantities: Mapping[str, int], at: datetime) -> bytes:
    """944: what a supplier brought."""
    body = [["W17", "F", f"{at:%Y%m%d}", receipt_id], ["N1", "WH", "Warehouse", "92", location]]
    body += [["W07", str(quantity), "EA", "", "VN", sku] for sku, quantity in quantities.items()]
    return _set("944", at, body)


def line_pick(line: SoldLine, taken: int | None = None, sku: str | None = None) -> Pick:
    """All of a line as ordered, or less of it, or another article in its place."""
    return Pick(line, line.quantity, line.quantity if taken is None else taken, sku or line.sku)


def _set(set_id: str, at: datetime, body: list[Segment]) -> bytes:
    day, hour = f"{at:%Y%m%d}", f"{at:%H%M%S}"
    control = f"{int(at.timestamp()) % 1_000_000_000:09}"
    head = ["00", " " * 10, "00", " " * 10, "ZZ", "WAREHOUSE".ljust(15), "ZZ", "TWINSYNC".ljust(15)]
    segments = [
        ["ISA", *head, day[2:], hour[:4], "U", "00401", control, "0", "P", ">"],
        ["GS", _GROUPS[set_id], "WAREHOUSE", "TWINSYNC", day, hour, control.lstrip("0"), "X", "004010"],
        ["ST", set_id, "0001"],
        *body,
        ["SE", str(len(body) + 2), "0001"],
        ["GE", "1", control.lstrip("0")],
        ["IEA", "1", control],
    ]
    return "".join("*".join(segment) + "~\n" for segment in segments).encode()


def _sscc(serial: int) -> str:
    digits = f"{_COMPANY_PREFIX}{serial:09}"
    return f"{digits}{gs1_standard_check_digit(digits)}"
