"""Amounts in ISO 4217 precision, and how a whole is divided without losing a minor unit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

import pycountry

ZERO = Decimal(0)

# ISO 4217:2015, list one: currencies whose minor unit is not the hundredth.
_MINOR_DIGITS = (
    dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    )
    | dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3)
    | dict.fromkeys(["CLF", "UYW"], 4)
)


@lru_cache
def currency(code: str) -> str:
    """Check an ISO 4217 alphabetic code; raises ValueError."""
    if len(code) != 3 or not code.isascii() or not code.isupper():
        raise ValueError(f"{code!r} is not an ISO 4217 code (three capital letters)")
    if pycountry.currencies.get(alpha_3=code) is None:
        raise ValueError(f"{code!r} is not a currency of ISO 4217")
    return code


@lru_cache
def minor_unit(code: str) -> Decimal:
    """The smallest amount of a currency: ``Decimal("0.01")`` for USD, ``Decimal("1")`` for JPY."""
    return Decimal(1).scaleb(-_MINOR_DIGITS.get(code, 2))


def rounded(amount: Decimal, code: str) -> Decimal:
    """Round half up (away from zero) to the currency's minor unit."""
    return amount.quantize(minor_unit(code), rounding=ROUND_HALF_UP)


def share(whole: Decimal, before: Decimal, part: Decimal, total: Decimal, code: str) -> Decimal:
    """The slice of *whole* that belongs to *part* out of *total*, *before* having been taken already.

    Successive slices sum to the rounded whole exactly, whatever their number: each is the difference of
    two rounded running totals. Units: *whole* in currency, the other three in one common unit.
    """
    if total == 0:
        return rounded(ZERO, code)
    return rounded(whole * (before + part) / total, code) - rounded(whole * before / total, code)


def apportion(whole: Decimal, weights: Sequence[Decimal], code: str) -> tuple[Decimal, ...]:
    """Divide *whole* in proportion to *weights* by the largest remainder; the parts sum to the whole.

    Raises: ValueError where every weight is zero but the whole is not.
    """
    unit = minor_unit(code)
    total = sum(weights, ZERO)
    if total == 0:
        if whole != 0:
            raise ValueError("cannot divide an amount over weights that sum to zero")
        return tuple(rounded(ZERO, code) for _ in weights)
    units = int(rounded(whole, code) / unit)
    exact = [weight * units / total for weight in weights]
    floors = [int(value // 1) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda n: (floors[n] - exact[n], n))
    for n in by_remainder[: units - sum(floors)]:
        floors[n] += 1
    return tuple(floor * unit for floor in floors)
