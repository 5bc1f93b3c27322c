"""Failures, named by whose fault they are, because that decides what happens to the message."""

from __future__ import annotations


class TwinsyncError(Exception):
    """Base of every failure that twinsync raises on purpose."""


class RejectedMessage(TwinsyncError):
    """The sender's fault: the message can never be taken. Dead-letter it with the reason; do not retry.

    *field* is the path of the offending field (``data.lines.0.quantity``), or ``""`` where the whole
    message is at fault.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return (_rejected, (self.reason, self.field))


def _rejected(reason: str, field: str) -> RejectedMessage:
    return RejectedMessage(reason, field=field)


class TransientFailure(TwinsyncError):
    """The world's fault: a broker, database or ERP is away. Back off and deliver again."""


class InvariantViolated(TwinsyncError):
    """Our fault: stop the twin, keep the message, wake an engineer."""


class Overloaded(TwinsyncError):
    """Nobody's fault: slow the intake down."""


class Fenced(TwinsyncError):
    """This host lost its epoch to a newer incarnation and must stop; nothing it held was committed."""
