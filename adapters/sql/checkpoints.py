"""Checkpoints as bytes: a cache of what the events say, void with any change of the code that folds."""

from __future__ import annotations

import hashlib
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import canonical
import twins.core
from twins.core.history import Checkpoint


@lru_cache
def code() -> str:
    """Digest of everything that decides what a fold gives."""
    digest = hashlib.sha256()
    for package in (canonical, twins.core):
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def dumped(checkpoint: Checkpoint[Any]) -> bytes:
    return pickle.dumps(checkpoint, protocol=pickle.HIGHEST_PROTOCOL)


def loaded(body: bytes) -> Checkpoint[Any]:
    """Only for bytes that this database was given by a host: a pickle can run code."""
    found = pickle.loads(body)
    assert isinstance(found, Checkpoint)
    return found
