"""Which model a CloudEvents ``type`` has, in which version, and how older versions are brought up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from canonical.errors import RejectedMessage
from canonical.facts import erp, order, reference, shipment, stock, tracking
from canonical.facts.base import Fact, Retracted

FactType = type[Fact]

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the data of one major version into that of the next; what it is given is its own to change."""

_TYPE = re.compile(r"io\.twinsync\.[a-z]+\.[a-z-]+\.v([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Entry:
    type: str
    model: FactType
    version: int
    upcasters: tuple[Upcaster, ...] = ()
    """From an old version up to the model's, applied in order; empty for the current version."""

    def upcast(self, data: Any) -> Any:
        """Bring decoded data of this version up to the model's; *data* itself stays as it is.

        Raises: RejectedMessage where an upcaster misses what it builds on: no model checks old data first.
        """
        try:
            for upcast in self.upcasters:
                data = upcast(deepcopy(data))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise RejectedMessage(f"not the data of {self.type}: {error!r}", field="data") from error
        return data


def _facts() -> Iterator[type[Fact]]:
    yield Retracted
    for module in (order, shipment, tracking, stock, reference, erp):
        for value in vars(module).values():
            declared = isinstance(value, type) and issubclass(value, Fact) and hasattr(value, "TYPE")
            if declared and value.__module__ == module.__name__:
                yield value


def _version(event_type: str) -> int:
    match = _TYPE.fullmatch(event_type)
    if match is None:
        raise ValueError(f"{event_type!r} is not io.twinsync.<kind>.<fact>.v<major>")
    return int(match[1])


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {fact.TYPE: Entry(fact.TYPE, fact, _version(fact.TYPE)) for fact in _facts()}
)


def entry(event_type: str) -> Entry:
    """Look a type up. Raises: RejectedMessage naming ``type`` and, for a near miss, the known versions."""
    found = CATALOGUE.get(event_type)
    if found is not None:
        return found
    stem = event_type.rpartition(".v")[0]
    versions = [known.type for known in CATALOGUE.values() if known.type.rpartition(".v")[0] == stem]
    if versions:
        reason = f"unknown version: {event_type!r}; known: {', '.join(versions)}"
    else:
        near = get_close_matches(event_type, CATALOGUE, n=3)
        reason = f"unknown event type {event_type!r}" + (f"; near it: {', '.join(near)}" if near else "")
    raise RejectedMessage(reason, field="type")


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of each fact's ``data``, by type; old versions have a model no longer."""
    return {
        name: {"$id": schema_uri(name), **found.model.ADAPTER.json_schema()}
        for name, found in sorted(CATALOGUE.items())
        if not found.upcasters
    }


def schema_uri(event_type: str) -> str:
    return f"urn:twinsync:schema:{event_type}"
