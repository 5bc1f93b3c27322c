"""Field types shared by every fact."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StringConstraints

from canonical import identity, money

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""What is undated says 1970, and sorts first; what is dated before it has no clock."""

_QUANTITY_MAX = Decimal(10) ** 12


@lru_cache(maxsize=8_192)
def plain(number: Decimal) -> Decimal:
    """One spelling for each number: 1.50 and 1.5 are the same fact, and hash alike; so do 0 and -0.

    And one object for those that come often: 0.1 kB each, several in each line that stays in memory.
    """
    if not number:
        return money.ZERO
    whole = number.to_integral_value()
    return whole.quantize(Decimal(1)) if whole == number else number.normalize()


def _small(number: object) -> object:
    """Python spells out every digit of 1e999999999 to make an integer of it: refuse such before it tries."""
    if isinstance(number, Decimal | float) and not -(2**63) < number < 2**63:
        raise ValueError("expected a whole number below 2^63")
    return number


def _dated(moment: object) -> object:
    """A number, or text that is one, is no moment: nobody says whether it counts seconds, and since when."""
    if isinstance(moment, datetime) or (isinstance(moment, str) and moment[4:5] == "-"):
        return moment
    raise ValueError("expected an RFC 3339 time, such as 2026-03-02T08:00:00Z")


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is outside the years 1 to 9999") from None


def _not_too_early(moment: datetime) -> datetime:
    if moment < EARLIEST:
        raise ValueError(f"before {EARLIEST.year}")
    return moment


Identifier = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f\s]([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s])?$"
    ),
]
Text = Annotated[str, StringConstraints(max_length=2_000, pattern=r"^[^\x00]*$")]
"""Of several lines if need be. PostgreSQL stores no NUL."""
WHOLE_MAX = 2**63 - 1
"""What a database takes for a whole number."""
Whole = Annotated[int, Field(ge=-WHOLE_MAX - 1, le=WHOLE_MAX), BeforeValidator(_small)]
Moment = Annotated[AwareDatetime, AfterValidator(_utc), BeforeValidator(_dated)]
Occurred = Annotated[Moment, AfterValidator(_not_too_early)]
"""When a partner says that something happened: it becomes the time of an event."""
Quantity = Annotated[
    Decimal,
    Field(ge=0, le=_QUANTITY_MAX, decimal_places=6, allow_inf_nan=False),
    AfterValidator(plain),
]
"""Count in the item's base unit, never negative."""
Delta = Annotated[
    Decimal,
    Field(ge=-_QUANTITY_MAX, le=_QUANTITY_MAX, decimal_places=6, allow_inf_nan=False),
    AfterValidator(plain),
]
"""Signed change of a quantity."""
Amount = Annotated[
    Decimal,
    Field(ge=-_QUANTITY_MAX, le=_QUANTITY_MAX, decimal_places=8, allow_inf_nan=False),
    AfterValidator(plain),
]
"""Money in the currency named beside it."""
Currency = Annotated[str, AfterValidator(money.currency)]
GtinText = Annotated[str, AfterValidator(identity.gtin)]
SsccText = Annotated[str, AfterValidator(identity.sscc)]
