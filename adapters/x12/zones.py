"""Time zones that partners name beside a time (element 623, time code)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta, timezone, tzinfo
from types import MappingProxyType
from zoneinfo import ZoneInfo

from adapters.x12.segments import Segment

_LOCAL = "LT"
_OFFSETS_H: Mapping[str, float] = MappingProxyType(
    {
        **{f"{hours:02}": hours for hours in range(1, 13)},
        **{f"{code:02}": code - 25 for code in range(13, 25)},
        **{"UT": 0, "GM": 0},
        **{"ND": -2.5, "NS": -3.5, "TD": -3, "TS": -4, "ED": -4, "ES": -5, "CD": -5, "CS": -6},
        **{"MD": -6, "MS": -7, "PD": -7, "PS": -8, "AD": -8, "AS": -9, "HD": -9, "HS": -10},
    }
)
"""Element 623, hours from UTC: 01 to 12 are east; 13, twelve hours west, to 24, one hour west; then daylight
and standard times."""
_ZONES: Mapping[str, str] = MappingProxyType(
    {
        "NT": "America/St_Johns",
        "TT": "America/Halifax",
        "ET": "America/New_York",
        "CT": "America/Chicago",
        "MT": "America/Denver",
        "PT": "America/Los_Angeles",
        "AT": "America/Anchorage",
        "HT": "Pacific/Honolulu",
    }
)
"""Element 623, where it does not say whether daylight or standard time."""


def zone(segment: Segment, element: int) -> tzinfo | None:
    """What a time code names; nothing for local time. Raises: RefusedSet."""
    if segment[element] in ("", _LOCAL):
        return None
    code = segment.code(element, {_LOCAL, *_OFFSETS_H, *_ZONES})
    return ZoneInfo(_ZONES[code]) if code in _ZONES else timezone(timedelta(hours=_OFFSETS_H[code]))
