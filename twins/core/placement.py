"""Which host each twin lives in.

One more host takes twins from all others, and none moves between those; one fewer is the way back. Never
trusted for correctness: every commit asserts its host's epoch and the placement that it goes by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from canonical.identity import Kind, TwinRef, twin_ref

HOSTS_MAX = 256
SLOTS = 4_096
"""Twins fall on slots, and hosts share these: 16 are the fewest that a host can have."""


@dataclass(frozen=True, slots=True)
class Placement:
    """*pooled_hosts* hosts share all twins but those *pinned* and of *dedicated* kinds, an actor each."""

    pooled_hosts: int = 1
    dedicated: frozenset[Kind] = frozenset()
    pinned: frozenset[TwinRef] = frozenset()
    version: int = 0
    """Each that is decided upon has the next."""

    def host_of(self, ref: TwinRef) -> str:
        if ref.kind in self.dedicated or (self.pinned and ref in self.pinned):
            return str(ref)
        return _seats(self.pooled_hosts)[crc32(str(ref).encode()) % SLOTS]

    def pooled_names(self) -> list[str]:
        return [f"host-{number}" for number in range(self.pooled_hosts)]

    def names(self, host: str) -> bool:
        """Whether some twin may live there."""
        if is_dedicated(host):
            return self.host_of(twin_ref(host)) == host
        return host in self.pooled_names()

    def still_owns(self, host: str, refs: Iterable[TwinRef], now: Placement) -> bool:
        """Whether a host that goes by this one owns *refs* as of *now*, and nobody has owned them since.

        Where a version lies between, one of them may have gone to another host and come back.
        """
        return now.version <= self.version + 1 and all(now.host_of(ref) == host for ref in refs)


UNPLACED = Placement()
"""What holds before anything is decided: one host for all."""
FIRST_HOST = "host-0"
"""It is there whatever the number of hosts."""


def is_dedicated(host: str) -> bool:
    """Whether it is the actor of one twin, whose name it has."""
    return "/" in host


@lru_cache
def _seats(hosts: int) -> tuple[str, ...]:
    """Slot → host. Each newcomer takes its share of whoever has most."""
    shares = [list(range(SLOTS))]
    for number in range(1, hosts):
        taken: list[int] = []
        while len(taken) < SLOTS // (number + 1):
            taken.append(max(shares, key=len).pop())
        shares.append(taken)
    owners = {slot: f"host-{number}" for number, share in enumerate(shares) for slot in share}
    return tuple(owners[slot] for slot in range(SLOTS))
