"""Field types shared by every fact."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from canonical import identity, money

_QUANTITY_MAX = Decimal(10) ** 12


def plain(number: Decimal) -> Decimal:
    """One spelling for each number: 1.50 and 1.5 are the same fact, and hash alike; so do 0 and -0."""
    whole = number.to_integral_value()
    return whole.quantize(Decimal(1)) + money.ZERO if whole == number else number.normalize()


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is outside the years 1 to 9999") from None


Identifier = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f\s]([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s])?$"
    ),
]
Text = Annotated[str, StringConstraints(max_length=2_000)]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
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
