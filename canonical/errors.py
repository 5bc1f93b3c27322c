"""Failures, named by whose fault they are, because that decides what happens to the message."""

from __future__ import annotations

from typing import Any

REASON_LENGTH_MAX, FIELD_LENGTH_MAX = 1_000, 200


class TwinsyncError(Exception):
    """Base of every failure that twinsync raises on purpose."""


class RejectedMessage(TwinsyncError):
    """The sender's fault: the message can never be taken. Dead-letter it with the reason; do not retry.

    *field* is the path of the offending field (``data.lines.0.quantity``), or ``""`` where the whole
    message is at fault.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        self.reason = readable(reason, REASON_LENGTH_MAX)
        self.field = readable(field, FIELD_LENGTH_MAX)
        super().__init__(f"{self.field}: {self.reason}" if field else self.reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rejected, (self.reason, self.field))


def readable(text: str, length_max: int) -> str:
    """Text that any database stores and any terminal shows, however wild it came: a reason often quotes."""
    if len(text) > length_max:
        text = text[: length_max - 1] + "…"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _rejected(reason: str, field: str) -> RejectedMessage:
    return RejectedMessage(reason, field=field)


class TransientFailure(TwinsyncError):
    """The world's fault: a broker, database or ERP is away. Back off and deliver again."""


class Moving(TransientFailure):
    """A host is on its way to another node, or is being started anew: it answers soon."""


class Elsewhere(Moving):
    """A twin lives in another host than the one that was asked, or is on its way there.

    *placement* says where all do by now; see twins.core.placement.
    """

    def __init__(self, placement: Any) -> None:
        self.placement = placement
        super().__init__(f"a twin lives elsewhere by version {placement.version} of the placement")

    def __reduce__(self) -> tuple[object, ...]:
        return (Elsewhere, (self.placement,))


class InvariantViolated(TwinsyncError):
    """Our fault: stop the twin, keep the message, wake an engineer."""


class Overloaded(TwinsyncError):
    """Nobody's fault: slow the intake down."""


class Fenced(TwinsyncError):
    """This host lost its epoch to a newer incarnation and must stop; nothing it held was committed."""
