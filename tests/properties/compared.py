"""What must be equal between two ways to the same end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from pydantic_core import to_jsonable_python

from canonical.envelope import parse_structured
from canonical.identity import PostingKey, TwinRef
from canonical.postings import Posting
from tests.world import World
from twins.core.contributions import Forwarded, Value
from twins.core.twin import Snapshot, Twin

Twins = Mapping[TwinRef, Twin]
Documents = dict[TwinRef, dict[str, Any]]


def spelled(document: object) -> str:
    """A document in canonical JSON: 1 and 1.0 are not the same here, as they are not to an ETag."""
    return json.dumps(to_jsonable_python(document), sort_keys=True, separators=(",", ":"))


def digest(documents: Documents) -> str:
    """SHA-256 of all that readers see."""
    lines = (spelled([str(ref), documents[ref]]) for ref in sorted(documents))
    return sha256("\n".join(lines).encode()).hexdigest()


def documents_of(snapshots: Iterable[Snapshot]) -> Documents:
    return {one.ref: one.document() for one in snapshots if one.exists}


def documents(twins: Twins) -> Documents:
    return documents_of(twins[ref].snapshot() for ref in sorted(twins))


def words(twins: Twins) -> dict[tuple[TwinRef, TwinRef], object]:
    """(target, source) → what the one maintains in the other."""
    return {
        (target, source): _content(word.value)
        for target, twin in twins.items()
        for source, word in twin.registers.items()
        if word.value is not None
    }


def _content(value: Value) -> object:
    """An event that is handed on counts by what it says; how it travelled is left out."""
    if not isinstance(value, Forwarded):
        return value
    return tuple(parse_structured(one.structured.encode()).digest() for one in value.events)


def live(twins: Twins) -> dict[PostingKey, Posting]:
    """Every live posting. Raises: AssertionError where two twins want the same document."""
    return World(twins=dict(twins)).live()


def assert_same(found: Twins, expected: Twins) -> None:
    assert documents(found) == documents(expected)
    assert words(found) == words(expected)
    assert live(found) == live(expected)
    assert digest(documents(found)) == digest(documents(expected))
