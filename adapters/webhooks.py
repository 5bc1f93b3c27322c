"""What webhooks of JSON have in common, whoever sends them.

Whole numbers are kept as text and fractions as decimals: neither a 64-bit id nor an amount passes through a
float. What is sent as ``null`` or ``""`` where there is nothing to say is None, or an empty tuple.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from canonical.errors import RejectedMessage
from canonical.types import Text

T = TypeVar("T")


def read(body: bytes) -> dict[str, Any]:
    """Decode a body. Raises: RejectedMessage for all that is not one JSON object."""
    if not body.strip():
        raise RejectedMessage("empty body")
    try:
        found = json.loads(body, parse_int=str, parse_float=Decimal, parse_constant=_not_a_number)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise RejectedMessage(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RejectedMessage("expected a JSON object")
    return found


def rejected(error: ValidationError, path: str = "") -> RejectedMessage:
    """The first fault, under the path of its field."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    reason = first["msg"].removeprefix("Value error, ")
    return RejectedMessage(reason + more, field=path + ".".join(map(str, first["loc"])))


def _not_a_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def blank_is_none(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _null_is_empty(value: Any) -> Any:
    return () if value is None else value


MaybeText = Annotated[Text | None, BeforeValidator(blank_is_none)]
Many = Annotated[tuple[T, ...], BeforeValidator(_null_is_empty)]


class Theirs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
