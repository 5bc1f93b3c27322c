"""What a host has changed, in memory that every process of its machine can look at.

Whoever remembers an answer, and the stamp from before it was asked for, need not ask again while the stamp
stands and the board is trusted.
"""

from __future__ import annotations

import os
import secrets
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from mmap import MAP_SHARED, PROT_READ, mmap
from time import monotonic_ns
from zlib import crc32

from canonical.identity import TwinRef

SLOTS = 1 << 32 - 15
"""Twins that fall on one slot change their stamps together, which costs a question and nothing else."""
WORD_BYTES = 8
TRUST_S = 0.75
"""How long a board speaks for its host after the host was seen to hold its epoch. A successor shows nothing
new before that has passed."""
RENEW_S = TRUST_S / 4

_TOKEN, _TRUSTED_UNTIL_NS, _PLACEMENT, _FIRST = 0, 1, 2, 3
_BYTES = (_FIRST + SLOTS) * WORD_BYTES


@dataclass(frozen=True, slots=True)
class Place:
    """Where processes of the same machine find a board."""

    process: int
    descriptor: int
    token: int
    """Tells boards apart, should another process have the same number."""


class Board:
    """The host's side. Its memory is gone with the last process that looks at it."""

    def __init__(self) -> None:
        """Raises: OSError where there is no memory for it."""
        self._token = secrets.randbits(62)
        self._descriptor = os.memfd_create("twinsync-stamps")
        os.ftruncate(self._descriptor, _BYTES)
        self._words = memoryview(mmap(self._descriptor, _BYTES)).cast("Q")
        self._words[_FIRST:] = memoryview(array("Q", [self._token]) * SLOTS)
        self._words[_TOKEN] = self._token

    @property
    def place(self) -> Place:
        return Place(os.getpid(), self._descriptor, self._token)

    def changed(self, refs: Iterable[TwinRef]) -> None:
        """Before it shows them to any reader."""
        words = self._words
        for ref in refs:
            words[_slot(ref)] += 1

    def trust(self, since_ns: int) -> None:
        """The host held its epoch at *since_ns*, or later."""
        self._words[_TRUSTED_UNTIL_NS] = since_ns + int(TRUST_S * 1e9)

    def distrust(self) -> None:
        """From now on, whoever wants to know asks."""
        self._words[_TRUSTED_UNTIL_NS] = 0

    def go_by(self, version: int) -> None:
        """The host goes by this version of the placement. Once trusted, it speaks to those who do too."""
        self.distrust()
        self._words[_PLACEMENT] = version


class BoardReader:
    """A board of another process of this machine."""

    def __init__(self, place: Place) -> None:
        """Raises: OSError where there is none, as on another machine."""
        descriptor = os.open(f"/proc/{place.process}/fd/{place.descriptor}", os.O_RDONLY)
        try:
            if os.fstat(descriptor).st_size != _BYTES:
                raise FileNotFoundError(f"process {place.process} has another file there")
            shared = mmap(descriptor, _BYTES, MAP_SHARED, PROT_READ)
        finally:
            os.close(descriptor)
        self._words = memoryview(shared).cast("Q")
        if self._words[_TOKEN] != place.token:
            raise FileNotFoundError(f"process {place.process} has another board")

    @property
    def placement(self) -> int:
        """The version that the host goes by."""
        return self._words[_PLACEMENT]

    def stamp(self, ref: TwinRef, placement: int = 0) -> int | None:
        """Another one whenever the twin may have changed; None where only asking tells.

        *placement*: the version by which the twin is this host's.
        """
        words = self._words
        stamp = words[_slot(ref)]
        return stamp if words[_TRUSTED_UNTIL_NS] > monotonic_ns() and words[_PLACEMENT] == placement else None


def _slot(ref: TwinRef) -> int:
    """By the upper bits: the lower ones say which host the twin is in."""
    return _FIRST + (crc32(f"{ref.kind}/{ref.key}".encode()) >> 15)
