"""What a kind of twin is: seven pure functions, and the small vocabulary they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from msgspec import Struct

from canonical.envelope import Event
from canonical.identity import EventId, Kind, PostingKey, TwinRef
from canonical.postings import Posting
from twins.core.contributions import Binding, Interest, Value

S = TypeVar("S")
I = TypeVar("I", bound="Inbox")  # noqa: E741
V = TypeVar("V")
S_co = TypeVar("S_co", covariant=True)
T = TypeVar("T")
K = TypeVar("K")

NOTHING: dict[Any, Any] = cast(dict[Any, Any], MappingProxyType({}))
"""What twins share until they have something to keep in a map of their own. Writing to it raises."""


def nothing() -> dict[Any, Any]:
    return NOTHING


_item, _index, _length = tuple.__getitem__, tuple.index, tuple.__len__


class Few(Mapping[K, V], tuple[Any, ...]):
    """A map of a handful: its keys and then their values. A dict of one entry takes four times as much."""

    __slots__ = ()

    @classmethod
    def of(cls, entries: Mapping[K, V]) -> Few[K, V]:
        return cls((*entries, *entries.values()))

    def __len__(self) -> int:
        return _length(self) >> 1

    def __iter__(self) -> Iterator[K]:
        return iter(_item(self, slice(_length(self) >> 1)))

    def __getitem__(self, key: K) -> V:  # type: ignore[override]
        many = _length(self) >> 1
        try:
            return cast(V, _item(self, many + _index(self, key, 0, many)))
        except ValueError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return key in _item(self, slice(_length(self) >> 1))

    def get(self, key: K, default: Any = None) -> Any:
        many = _length(self) >> 1
        for at, one in enumerate(_item(self, slice(many)), many):
            if one == key:
                return _item(self, at)
        return default

    def items(self) -> Any:
        many = _length(self) >> 1
        return zip(_item(self, slice(many)), _item(self, slice(many, None)), strict=False)

    def values(self) -> Any:
        return _item(self, slice(_length(self) >> 1, None))

    def __repr__(self) -> str:
        return f"Few({dict(self.items())})"

    __eq__, __hash__ = Mapping.__eq__, None  # type: ignore[assignment]


FEW = 6
"""Entries of the largest map that is searched one by one."""


def put(known: Mapping[K, V], entries: Mapping[K, V]) -> Mapping[K, V]:
    """*known* with these entries. A map of many is changed, and answered."""
    if isinstance(known, dict):
        known.update(entries)
        return known
    both = dict(known.items())
    both.update(entries)
    return compact(both)


def compact(entries: dict[K, V]) -> Mapping[K, V]:
    return Few.of(entries) if len(entries) <= FEW else entries


def without(known: Mapping[K, V], key: K) -> Mapping[K, V]:
    """The same for an entry that is to go, and is there."""
    if isinstance(known, dict):
        del known[key]
        return known
    return Few.of({one: value for one, value in known.items() if one != key})


class Waiting(Struct, frozen=True, gc=False):
    """An event that is not enabled yet; *what* says which fact would enable it."""

    what: str


class Finding(Struct, frozen=True, gc=False):
    """Something a person should see. *due*: it counts from then on; None: at once."""

    code: str
    text: str
    events: tuple[EventId, ...] = ()
    due: datetime | None = None


class FreightCharge(StrEnum):
    """When the customer is charged for freight."""

    PRORATED = "prorated"
    """With each shipment, in proportion to what it carries."""
    FINAL_SHIPMENT = "final-shipment"
    """As a whole with the shipment after which nothing is left to ship."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a company decides. The same for every twin of a running system; part of no event."""

    over_ship_tolerance: Decimal = Decimal("0.05")
    """Share of the ordered quantity that may be shipped beyond it."""
    carrier_bill_tolerance: Decimal = Decimal("0.10")
    """Share of the accrued freight by which a carrier's bill may differ."""
    freight_charge: FreightCharge = FreightCharge.PRORATED
    require_master_data: bool = True
    """Hold orders and postings until customer and items are known."""
    currency: str = "USD"
    """Of postings about stock whose item names no currency."""
    dispatch_deadline: timedelta = timedelta(hours=24)
    """How long a carrier's scan may lack the warehouse's dispatch before it is an exception."""
    origin_deadline: timedelta = timedelta(hours=24)
    """How long a twin may stay provisional, or an event held, before it is an exception."""


class Around(Protocol[S_co]):
    """What lies before and after the place of a late event."""

    def state_before(self) -> S_co:
        """The state that the event finds, at the cost of folding from the checkpoint before it."""
        ...

    def precedes(self, other: EventId) -> bool:
        """Whether the event sorts before another."""
        ...


class Word(NamedTuple):
    """What a neighbour said last. *value* None: nothing any more."""

    version: int
    value: Value | None


def word(version: int, value: Value | None) -> Word:
    """One object for all who ask the same: master data keeps a word of every order."""
    return _asked(version, value) if isinstance(value, Interest | Binding) else Word(version, value)


@lru_cache(maxsize=1_024)
def _asked(version: int, value: Value) -> Word:
    return Word(version, value)


@dataclass(slots=True)
class Inbox:
    """What other twins contribute."""

    words: Mapping[TwinRef, Word] = field(default_factory=nothing)

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        """Bring what a kind makes of the words up to date: *source* says something new."""


@dataclass(slots=True)
class Registers(Inbox):
    """The inbox of kinds with few neighbours: they look at the words themselves."""

    def value(self, source: TwinRef) -> Value | None:
        found = self.words.get(source)
        return None if found is None else found.value

    def of(self, kind: type[V]) -> list[tuple[TwinRef, V]]:
        """Values of one type, by source; the order of arrival leaves no trace."""
        found: list[tuple[TwinRef, V]] = [
            (ref, value) for ref, (_, value) in self.words.items() if isinstance(value, kind)
        ]
        if len(found) > 1:
            found.sort(key=_by_source)
        return found


@dataclass(slots=True)
class Asked(Inbox):
    """The inbox of master data, which any number of twins ask for."""

    interested: int = 0

    def absorb(self, source: TwinRef, old: Value | None, new: Value | None) -> None:
        self.interested += (new is not None) - (old is not None)


_by_source = itemgetter(0)


def terminal(transitions: Mapping[T, Mapping[Any, Any]]) -> frozenset[T]:
    """States that nothing leads out of."""
    return frozenset(state for state, moves in transitions.items() if not moves)


def _no_waits(view: Any) -> tuple[str, ...]:
    return ()


def _all_of_it(echo: Value, kind: Kind, question: Value) -> Value:
    return echo


def _no_labels(ref: TwinRef, view: Any) -> dict[str, str | None]:
    return {}


@dataclass(frozen=True, slots=True)
class Rules(Generic[S, I, V]):
    """State S folds the twin's own events; inbox I holds its neighbours' words; view V joins the two."""

    initial: S
    evolve: Callable[[S, Event], S | Waiting]
    inbox: Callable[[], I]
    view: Callable[[TwinRef, S, I, Policy], V]
    status: Callable[[V], str]
    contributions: Callable[[TwinRef, V], Mapping[TwinRef, Value]]
    postings: Callable[[TwinRef, V], Mapping[PostingKey, Posting]]
    findings: Callable[[TwinRef, V], tuple[Finding, ...]]
    document: Callable[[TwinRef, V], dict[str, Any]]
    """The twin as its readers see it: JSON-ready but for Decimal and datetime."""
    explain: Callable[[TwinRef, V], tuple[str, ...]]
    """Why the state is what it is, a sentence each."""
    waits: Callable[[V], tuple[str, ...]] = _no_waits
    """What has to come before it can go on."""
    final: frozenset[str] = frozenset()
    """Statuses in which its life is over, so that only corrections still come; none for endless twins."""
    labels: Callable[[TwinRef, V], dict[str, str | None]] = _no_labels
    """What lists filter by: ``customer_id``, ``sku``, ``location``."""
    slip_in: Callable[[S, Event, Around[S]], Callable[[S], S] | None] | None = None
    """How to slip a late event into states that were folded without it: the latest, which is given, and those
    between the event's place and that one. The same as folding again; None where it takes more to tell.

    For twins of long histories.
    """
    endless: bool = False
    """Its history never ends, so its fold is kept in storage from time to time."""
    asks: Callable[[S], Mapping[TwinRef, Value]] | None = None
    """Those of its contributions that its facts alone give, and that others answer: said before it settles,
    so that it need not settle again for the answers."""
    changed_contributions: Callable[[TwinRef, V], Mapping[TwinRef, Value | None] | None] | None = None
    """For twins of many neighbours: at least what differs from the view before, or None for all of it."""
    changed_postings: Callable[[TwinRef, V, I], Mapping[PostingKey, Posting | None] | None] | None = None
    """For twins of many documents: at least what differs since this was asked last, or None for all of it."""
    echo: Callable[[V], Value | None] | None = None
    """For master data: what it has to say to those who ask; None: nothing yet."""
    reply: Callable[[Any, Kind, Value], Value] = _all_of_it
    """And what of that a twin of a kind gets that asks so; one that would get the same again is not told."""
