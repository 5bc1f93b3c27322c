"""What can go wrong in a simulation, and how often it does."""

from __future__ import annotations

from enum import StrEnum
from random import Random


class Fault(StrEnum):
    SKEW = "skew"
    """The clocks of the sources are wrong, each by as much as it is."""
    DUPLICATE = "duplicate"
    """A message is delivered twice."""
    REORDER = "reorder"
    """A message is delivered much later than it was sent."""
    DROP = "drop"
    """A message of a source that numbers them is lost for good, unless the source is asked for it."""
    LOSS = "loss"
    """A delivery is lost, and made again."""
    CRASH_BEFORE_COMMIT = "crash-before-commit"
    CRASH_AFTER_COMMIT = "crash-after-commit"
    """Committed, never acknowledged: delivered again to the next incarnation."""
    ZOMBIE = "zombie"
    """A host that was replaced wakes up with its old epoch and tries to commit."""
    PASSIVATION = "passivation"
    """Twins leave memory and come back from disk."""
    MAIL_LOSS = "mail-loss"
    MAIL_DUPLICATE = "mail-duplicate"
    ERP_AWAY = "erp-away"
    ERP_SLOW = "erp-slow"
    """The ERP posts much later than it was told."""
    ERP_REFUSES = "erp-refuses"
    """The ERP will not take a command, now or later."""
    ERP_TIMEOUT = "erp-timeout"
    """The ERP posts, and its answer never comes."""
    ERP_FORGETS = "erp-forgets"
    """The ERP answers, and the answer is lost before it is committed."""


RATE: dict[Fault, float] = {
    Fault.SKEW: 1.0,
    Fault.DUPLICATE: 0.2,
    Fault.REORDER: 0.3,
    Fault.DROP: 0.05,
    Fault.LOSS: 0.1,
    Fault.CRASH_BEFORE_COMMIT: 0.02,
    Fault.CRASH_AFTER_COMMIT: 0.02,
    Fault.ZOMBIE: 0.02,
    Fault.PASSIVATION: 0.1,
    Fault.MAIL_LOSS: 0.1,
    Fault.MAIL_DUPLICATE: 0.1,
    Fault.ERP_AWAY: 0.1,
    Fault.ERP_SLOW: 0.1,
    Fault.ERP_REFUSES: 0.03,
    Fault.ERP_TIMEOUT: 0.1,
    Fault.ERP_FORGETS: 0.05,
}


def drawn(seed: int) -> frozenset[Fault]:
    """The faults of a run: each run lacks some, so that none hides behind another (swarm testing)."""
    random = Random(f"swarm-{seed}")
    return frozenset(fault for fault in Fault if random.random() < 0.7)
