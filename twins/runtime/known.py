"""What a host has committed lately: whoever tells one of these bodies again tells nothing new."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from canonical.envelope import is_binary
from twins.ports import Publication

KNOWN_MAX = 50_000
"""About ten megabytes. What is told twice comes twice within minutes, from a retry or a second witness."""
Digest = bytes


def digest(message: Publication) -> Digest | None:
    """Of the body, which is all that an event in structured form says; None for one in binary form."""
    if message.headers and is_binary(message.headers, message.content_type):
        return None
    return blake2b(message.body, digest_size=16).digest()


class Known:
    """A committed event is a duplicate whenever it comes again, whatever has become of its twin since."""

    def __init__(self, most: int = KNOWN_MAX) -> None:
        self._most = most
        self._digests: dict[Digest, None] = {}

    def __contains__(self, digest: Digest | None) -> bool:
        return digest in self._digests

    def add(self, committed: Iterable[Digest | None]) -> None:
        """The oldest go first, where there are too many."""
        self._digests.update((one, None) for one in committed if one is not None)
        while len(self._digests) > self._most:
            del self._digests[next(iter(self._digests))]
