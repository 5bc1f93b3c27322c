"""Units of measure: UN/ECE Recommendation 20 codes, and what partners write for them."""

from __future__ import annotations

from decimal import Decimal

EACH = "EA"

# X12 element 355 → UN/ECE Rec 20, where they differ.
_FROM_X12 = {
    "EA": "EA",
    "PC": "H87",
    "CA": "CS",
    "CT": "CT",
    "BX": "BX",
    "PL": "PF",
    "DZ": "DZN",
    "LB": "LBR",
}

_GRAMS = {
    "GRM": Decimal(1),
    "KGM": Decimal(1000),
    "LBR": Decimal("453.59237"),
    "ONZ": Decimal("28.349523125"),
}


def from_x12(code: str) -> str:
    """Translate an X12 unit code (element 355); an unknown one is passed through as it is."""
    return _FROM_X12.get(code, code)


def grams(amount: Decimal, unit: str) -> Decimal:
    """Convert a mass to grams. Raises: ValueError for a unit that is no mass."""
    try:
        return amount * _GRAMS[unit]
    except KeyError:
        raise ValueError(f"{unit!r} is not a unit of mass that twinsync knows") from None
