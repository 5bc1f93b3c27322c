"""Which host a twin lives in. Never trusted for correctness: every commit asserts its host's epoch."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from canonical.identity import Kind, TwinRef


@dataclass(frozen=True, slots=True)
class Placement:
    """*pooled_hosts* hosts share all twins but those of *dedicated* kinds, which are an actor each."""

    pooled_hosts: int = 1
    dedicated: frozenset[Kind] = frozenset()

    def host_of(self, ref: TwinRef) -> str:
        if ref.kind in self.dedicated:
            return str(ref)
        return f"host-{crc32(str(ref).encode()) % self.pooled_hosts}"

    def pooled_names(self) -> list[str]:
        return [f"host-{number}" for number in range(self.pooled_hosts)]
