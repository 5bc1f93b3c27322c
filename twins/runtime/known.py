"""What a host has committed lately: whoever tells one of these bodies again tells nothing new."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from canonical.envelope import is_binary
from twins.ports import Publication

KNOWN_MAX = 100_000
"""Some fifteen megabytes. What is told twice comes twice within minutes, from a retry or a second witness."""
Digest = bytes


def digest(message: Publication) -> Digest | None:
    """Of the body, which is all that an event in structured form says; None for one in binary form."""
    if message.headers and is_binary(message.headers, message.content_type):
        return None
    return blake2b(message.body, digest_size=16).digest()


class Known:
    """A committed event is a duplicate whenever it comes again, whatever has become of its twin since.

    The older half is dropped as one: a set has no oldest member to take out.
    """

    def __init__(self, most: int = KNOWN_MAX) -> None:
        self._half = most // 2
        self._newer: set[Digest | None] = set()
        self._older: set[Digest | None] = set()

    def __contains__(self, digest: Digest | None) -> bool:
        return digest in self._newer or digest in self._older

    def add(self, committed: Iterable[Digest | None]) -> None:
        self._newer.update(committed)
        self._newer.discard(None)
        if len(self._newer) > self._half:
            self._newer, self._older = set(), self._newer
