"""Whatever travels or is stored comes back as it was, however it was spelled and whatever version it has."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import asdict, make_dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Literal,
    NewType,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec import structs
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import RowMapping

from adapters.sql import rows
from adapters.sql.checkpoints import dumped, loaded
from adapters.sql.engine import sqlite_url
from adapters.sql.store import SqlStore
from canonical import catalogue
from canonical.catalogue import CATALOGUE, Entry
from canonical.envelope import EARLIEST, STRUCTURED, Event, from_attributes, parse, parse_structured
from canonical.errors import InvariantViolated, RejectedMessage
from canonical.facts.base import Fact, Part, Rank, Retracted, closed
from canonical.facts.stock import StockAdjusted
from canonical.identity import Kind, TwinRef, twin_ref
from canonical.postings import POSTING, Command, Posting
from canonical.types import (
    Amount,
    Currency,
    Delta,
    GtinText,
    Identifier,
    Moment,
    Quantity,
    SsccText,
    Text,
    Whole,
)
from tests.properties.generated import EXAMPLES
from tests.stories import golden
from tests.world import DAY, World
from twins.core import contributions, stock
from twins.core.batch import Effects
from twins.core.contributions import VALUE, Contribution, Value
from twins.core.history import Arrival, History
from twins.core.ledger import Record
from twins.core.twin import REPLIES

generated = settings(
    max_examples=max(EXAMPLES // 16, 1),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # to explain takes minutes here
)
each_type = pytest.mark.parametrize("event_type", CATALOGUE)
NOW = rows.moment_text(DAY)

# --- what a field may hold -------------------------------------------------------------------------------

visible = st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"])
identifiers = st.lists(st.text(visible, min_size=1, max_size=12), min_size=1, max_size=3).map(" ".join)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
longest = st.just("\N{GRINNING FACE}" * 2_000)
centuries = timedelta(days=735_000)
moments = st.timedeltas(-centuries, centuries).map(lambda later: DAY + later)
offsets = st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def decimals(low: int, places_max: int) -> st.SearchStrategy[Decimal]:
    """Decimals up to the most that a fact may hold, at any precision allowed."""
    most = 10**12
    fractions = st.integers(0, places_max).flatmap(lambda places: st.decimals(low, most, places=places))
    return fractions | st.integers(max(low, -9), 9).map(Decimal)


def check_digit(body: str) -> str:
    """GS1 General Specifications 7.9.1: weights 3 and 1 from the right."""
    total = sum(int(digit) * (3, 1)[place % 2] for place, digit in enumerate(reversed(body)))
    return body + str(-total % 10)


def gs1(*lengths: int) -> st.SearchStrategy[str]:
    digits = st.sampled_from(lengths).flatmap(lambda n: st.text("0123456789", min_size=n - 1, max_size=n - 1))
    return digits.map(check_digit)


KNOWN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Identifier, identifiers),
    (Text, texts | longest),
    (Moment, st.builds(datetime.astimezone, moments, offsets)),
    (Quantity, decimals(0, 6)),
    (Delta, decimals(-(10**12), 6)),
    (Amount, decimals(-(10**12), 8)),
    (Currency, st.sampled_from(["USD", "EUR", "JPY", "BHD"])),
    (GtinText, gs1(8, 12, 13, 14)),
    (SsccText, gs1(18)),
    (str, texts),
    (int, st.integers(0, 2**31 - 1)),
    (Whole, st.integers(0, 2**31 - 1)),
    (bool, st.booleans()),
    (date, st.dates()),
    (datetime, moments),
    (Decimal, st.decimals(-(10**20), 10**20, allow_nan=False)),
    (NoneType, st.none()),
]


def values(hint: Any) -> st.SearchStrategy[Any]:
    """All that a field of this type may hold; raises where a new type has no line above."""
    for known, strategy in KNOWN:
        if hint is known:
            return strategy
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(*map(values, arguments))
    if get_origin(hint) is Literal:
        return st.sampled_from(arguments)
    if get_origin(hint) is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if isinstance(hint, NewType):
        return values(hint.__supertype__)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    if issubclass(hint, Part):
        required = {one.name for one in dataclasses.fields(hint) if one.default is dataclasses.MISSING}
        kinds = _fields(hint).items()
        return st.fixed_dictionaries(
            {name: values(kind) for name, kind in kinds if name in required},
            optional={name: values(kind) for name, kind in kinds if name not in required},
        )
    return st.builds(hint, **{name: values(kind) for name, kind in _fields(hint).items()})


def _fields(model: Any) -> dict[str, Any]:
    hints = get_type_hints(model, include_extras=True)
    return {name: kind for name, kind in hints.items() if get_origin(kind) is not ClassVar}


def facts(model: type[Fact]) -> st.SearchStrategy[Any]:
    """All but those whose fields do not go together."""

    def built(fields: dict[str, Any]) -> Fact | None:
        try:
            return cast(Fact, model.ADAPTER.validate_python(fields))
        except ValidationError as error:
            if any(one["loc"] for one in error.errors()):
                raise  # one field alone is wrong: so is its strategy
            return None

    return values(model).map(built).filter(lambda fact: fact is not None)


no_controls = st.characters(codec="utf-8", exclude_characters=[*map(chr, range(0x20)), "\x7f"])
attribute = st.text(no_controls, min_size=1, max_size=40)


@st.composite
def subjects(draw: st.DrawFn, model: type[Fact]) -> TwinRef:
    kind = draw(st.sampled_from(sorted(model.KINDS)))
    key = draw(identifiers)
    if kind is Kind.STOCK:
        key = f"{key}@{draw(identifiers.filter(lambda place: not place.endswith('@')))}"
    return twin_ref(f"{kind}/{key}")


def events(model: type[Fact], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    maybe = st.none() | attribute
    parts: dict[str, st.SearchStrategy[Any]] = {
        "source": attribute,
        "id": attribute,
        "subject": subjects(model),
        "time": values(Moment).filter(lambda moment: moment >= EARLIEST),
        "fact": facts(model),
        "sequence": st.none() | st.integers(0, 2**63 - 1),
        "correlation_id": maybe,
        "causation_id": maybe,
        "traceparent": maybe,
    }
    return st.builds(Event, **parts | fixed)


def same(told: Event, again: Event) -> None:
    assert again == told
    assert again.digest() == told.digest()
    assert again.structured() == told.structured()


# --- events ----------------------------------------------------------------------------------------------


@each_type
@generated
@given(data=st.data())
def test_an_event_comes_back_from_both_forms_on_the_wire(event_type: str, data: st.DataObject) -> None:
    told = data.draw(events(CATALOGUE[event_type].model))
    same(told, parse(told.structured(), {}, STRUCTURED))
    headers, body = told.binary()
    same(told, parse(body, headers, "application/json"))


@each_type
@generated
@given(data=st.data())
def test_an_event_comes_back_from_its_row(event_type: str, data: st.DataObject) -> None:
    told = data.draw(events(CATALOGUE[event_type].model))
    row = rows.event_row(told, Arrival.NEW, NOW)
    same(told, rows.read_event(as_read(row)))
    assert row["digest"] == told.digest()


@each_type
@generated
@given(data=st.data())
def test_an_event_comes_back_from_another_process_with_its_fields_and_nothing_else(
    event_type: str, data: st.DataObject
) -> None:
    """Many stay in memory: a dictionary in each would take more than what it says."""
    told = data.draw(events(CATALOGUE[event_type].model))
    again = pickle.loads(pickle.dumps(told, pickle.HIGHEST_PROTOCOL))
    same(told, again)
    for fact in (told.fact, again.fact, parse_structured(told.structured()).fact):
        assert not any(hasattr(part, "__dict__") for part in _parts(fact))


def _parts(value: Part) -> Iterator[Part]:
    yield value
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        for one in found if isinstance(found, tuple) else ():
            if isinstance(one, Part):
                yield from _parts(one)


def as_read(row: rows.Row) -> RowMapping:
    return cast(RowMapping, row)


@settings(generated, max_examples=max(EXAMPLES // 40, 1))
@given(st.tuples(*(events(found.model) for found in CATALOGUE.values())))
def test_an_event_of_every_type_comes_back_from_the_database(told: tuple[Event, ...]) -> None:
    async def stored(directory: Path) -> list[Event]:
        store = SqlStore(sqlite_url(directory))
        await store.migrate()
        epoch = await store.claim("host-0")
        await store.commit("host-0", epoch, Effects(events=[(one, Arrival.NEW) for one in told]))
        found = [kept for ref in {one.subject for one in told} for kept in await store.history(ref)]
        await store.close()
        return [kept.event for kept in found]

    with TemporaryDirectory() as directory:
        again = {
            (one.subject, one.event_id, one.digest()): one for one in asyncio.run(stored(Path(directory)))
        }
    for one in told:
        same(one, again[one.subject, one.event_id, one.digest()])


# --- spellings -------------------------------------------------------------------------------------------


@st.composite
def spelled(draw: st.DrawFn, hint: Any, value: Any) -> Any:
    """One of the ways in which JSON can tell a value."""
    if isinstance(value, Part):
        fields = _fields(type(value))
        told = {
            name: draw(spelled(kind, getattr(value, name)))
            for name, kind in fields.items()
            if not _is_default(value, name) or draw(st.booleans())
        }
        return {name: told[name] for name in draw(st.permutations(list(told)))}
    if isinstance(value, tuple):
        part = next(get_args(one)[0] for one in (hint, *get_args(hint)) if get_origin(one) is tuple)
        return [draw(spelled(part, one)) for one in value]
    if isinstance(value, Decimal):
        return draw(st.sampled_from(list(_numbers(value))))
    if isinstance(value, datetime):
        return value.astimezone(draw(offsets)).isoformat()
    if GtinText in (hint, *get_args(hint)) and value is not None:
        return draw(st.sampled_from([value, *(value[n:] for n in (1, 2, 6) if not int(value[:n]))]))
    return value.isoformat() if isinstance(value, date) else value


def _is_default(value: Part, name: str) -> bool:
    defaults = {one.name: one.default for one in dataclasses.fields(value)}
    return bool(defaults[name] == getattr(value, name))


def _numbers(value: Decimal) -> Iterator[str | int | float]:
    plain = f"{value:f}"
    yield plain
    yield f"{value:E}"
    yield (plain if "." in plain else f"{plain}.") + "000"
    yield plain if value.is_signed() else f"+{plain}"
    if value == value.to_integral_value():
        yield int(value)
    if Decimal(repr(float(value))) == value:
        yield float(value)
    if not value:
        yield from ("-0", "-0.00", -0.0, "0E+3")


@each_type
@generated
@given(data=st.data())
def test_the_same_content_in_another_spelling_is_the_same_event(event_type: str, data: st.DataObject) -> None:
    """Else a source that spells a number anew would be in conflict with itself."""
    told = data.draw(events(CATALOGUE[event_type].model))
    attributes: dict[str, Any] = {
        **told.attributes(),
        "time": told.time.astimezone(data.draw(offsets)).isoformat(),
        "data": data.draw(spelled(type(told.fact), told.fact)),
    }
    if told.sequence is not None and data.draw(st.booleans()):
        attributes["sequence"] = told.sequence
    shuffled = {name: attributes[name] for name in data.draw(st.permutations(list(attributes)))}
    body = json.dumps(
        shuffled, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.none() | st.just(1))
    )
    same(told, parse_structured(body.encode()))


def test_the_spelling_is_that_of_every_release() -> None:
    """Digests are stored: another spelling would make conflicts of what comes again."""
    line = {
        "line_id": "1",
        "sku": "A",
        "quantity": 2.50,
        "unit_price": "1E1",
        "discount": "-0",
        "title": None,
    }
    data = {"lines": [line], "freight": "7.50", "currency": "USD", "promised_by": "2026-03-09T08:00:00+02:00"}
    told = parse_structured(
        json.dumps(
            {
                "specversion": "1.0",
                "type": "io.twinsync.order.placed.v1",
                "source": "/oms",
                "id": "1",
                "subject": "order/SO-1",
                "time": "2026-03-02T08:00:00Z",
                "data": data,
            }
        ).encode()
    )
    assert told.data_json() == (
        b'{"currency":"USD","lines":[{"line_id":"1","sku":"A","quantity":"2.5","unit_price":"10"}],'
        b'"freight":"7.5","promised_by":"2026-03-09T06:00:00Z"}'
    )
    assert told.digest().hex() == "41c73ffd4ca586bcf46ab63bceb644e16fbc8a385df8a91d5d0daa5d187a5bcf"


def test_an_event_made_with_another_offset_is_the_same_event() -> None:
    """Translators may hand over a partner's own time of day."""
    fact, ref = StockAdjusted(adjustment_id="A-1", delta=1), twin_ref("stock/SKU-1@DC-1")
    east = DAY.astimezone(timezone(timedelta(hours=9)))
    same(Event("/wms", "1", ref, DAY, fact), Event("/wms", "1", ref, east, fact))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"sequence": float("inf")}, "sequence"),
        ({"sequence": 1.5}, "sequence"),
        ({"id": "a\0b"}, "id"),
        ({"source": "/a\nb"}, "source"),
        ({"correlationid": "\x7f"}, "correlationid"),
        ({"data": {"inbound_id": "I", "quantity": 1, "due": "0001-01-01T00:00:00+14:00"}}, "data.due"),
        ({"data": {"inbound_id": "I", "quantity": 1, "due": "9999-12-31T23:59:59-14:00"}}, "data.due"),
    ],
)
def test_what_could_not_come_back_is_refused_by_name(changed: dict[str, Any], field: str) -> None:
    attributes = {
        "specversion": "1.0",
        "type": "io.twinsync.stock.inbound-expected.v1",
        "source": "/wms",
        "id": "1",
        "subject": "stock/SKU-1@DC-1",
        "time": "2026-03-02T08:00:00Z",
        "data": {"inbound_id": "I", "quantity": 1, "due": "2026-03-09T08:00:00Z"},
    }
    assert from_attributes(attributes).sequence is None
    with pytest.raises(RejectedMessage) as refused:
        from_attributes(attributes | changed)
    assert refused.value.field == field


# --- versions --------------------------------------------------------------------------------------------


class _Weighed(Fact):
    __slots__ = ()

    KINDS = frozenset({Kind.STOCK})
    RANK = Rank.CHECK


@closed
class Weighed1(_Weighed):
    """What an earlier release had: here, as a release would, only to write what that one wrote."""

    TYPE = "io.twinsync.stock.weighed.v1"

    weighing_id: Identifier
    grams: Quantity
    note: Text | None = None


@closed
class Weighed2(_Weighed):
    TYPE = "io.twinsync.stock.weighed.v2"

    weighing_id: Identifier
    mass_g: Quantity
    note: Text | None = None


@closed
class WeighedPart(Part):
    mass_g: Quantity
    note: Text | None = None


@closed
class Weighed(_Weighed):
    TYPE = "io.twinsync.stock.weighed.v3"

    weighing_id: Identifier
    parts: tuple[WeighedPart, ...]
    scales: tuple[Identifier, ...] = ()


SCALES: list[str] = []


def renamed(data: dict[str, Any]) -> dict[str, Any]:
    data["mass_g"] = data.pop("grams")
    data["scales"] = SCALES
    return data


def divided(data: dict[str, Any]) -> dict[str, Any]:
    data["scales"].append("unknown")
    data["parts"] = [{"mass_g": data.pop("mass_g"), "note": data.pop("note", None)}]
    return data


def from_second(data: dict[str, Any]) -> dict[str, Any]:
    data["scales"] = []
    return divided(data)


@pytest.fixture(scope="module")
def upgraded() -> Iterator[None]:
    """A release in which a fact is in its third version, with upcasters that change what they are given."""
    entries = [
        Entry(Weighed1.TYPE, Weighed, 1, (renamed, divided)),
        Entry(Weighed2.TYPE, Weighed, 2, (from_second,)),
        Entry(Weighed.TYPE, Weighed, 3),
    ]
    with pytest.MonkeyPatch.context() as patch:
        known = {**CATALOGUE, **{one.type: one for one in entries}}
        patch.setattr(catalogue, "CATALOGUE", MappingProxyType(known))
        yield


def weighed(model: type[Weighed1 | Weighed2]) -> st.SearchStrategy[tuple[Event, Event]]:
    """The same told in an old version and in today's."""

    def today(old: Event) -> tuple[Event, Event]:
        told = old.fact
        assert isinstance(told, Weighed1 | Weighed2)
        mass_g = told.grams if isinstance(told, Weighed1) else told.mass_g
        part = WeighedPart(mass_g=mass_g, note=told.note)
        fact = Weighed(weighing_id=told.weighing_id, parts=(part,), scales=("unknown",))
        return old, dataclasses.replace(old, fact=fact)

    return events(model).map(today)


each_old = pytest.mark.parametrize("old", [Weighed1, Weighed2])


@pytest.mark.usefixtures("upgraded")
@each_old
@generated
@given(data=st.data())
def test_an_event_told_in_an_old_version_is_the_event_told_in_the_new(
    old: type[Weighed1 | Weighed2], data: st.DataObject
) -> None:
    """So a source of which one half is upgraded is not in conflict with itself."""
    before, after = data.draw(weighed(old))
    same(after, parse_structured(before.structured()))
    headers, body = before.binary()
    same(after, parse(body, headers))
    history: History[Any] = History(None, lambda state, event: state)
    assert history.add(parse_structured(before.structured())) is Arrival.NEW
    assert history.add(parse_structured(after.structured())) is Arrival.DUPLICATE


@pytest.mark.usefixtures("upgraded")
@each_old
@generated
@given(data=st.data())
def test_a_row_of_an_old_version_is_read_as_the_event_told_in_the_new(
    old: type[Weighed1 | Weighed2], data: st.DataObject
) -> None:
    before, after = data.draw(weighed(old))
    row = rows.event_row(before, Arrival.NEW, NOW)
    assert row["type"] == old.TYPE
    same(after, rows.read_event(as_read(row)))
    same(after, rows.read_event(as_read(row)))


@pytest.mark.usefixtures("upgraded")
def test_an_upcaster_that_changes_what_it_is_given_changes_nothing_else() -> None:
    fact = Weighed1(weighing_id="W-1", grams=5, note="wet")
    told = Event("/wms", "1", twin_ref("stock/SKU-1@DC-1"), DAY, fact)
    attributes = json.loads(told.structured())
    first = from_attributes(attributes)
    assert attributes == json.loads(told.structured())
    assert not SCALES
    same(first, from_attributes(attributes))


@pytest.mark.usefixtures("upgraded")
@pytest.mark.parametrize("data", [None, [], "text", {}, {"grams": 1, "stranger": 2}])
def test_old_data_that_no_upcaster_can_read_is_the_senders_fault(data: Any) -> None:
    fact = Weighed1(weighing_id="W-1", grams=5)
    told = Event("/wms", "1", twin_ref("stock/SKU-1@DC-1"), DAY, fact)
    with pytest.raises(RejectedMessage, match=r"^data"):
        from_attributes(json.loads(told.structured()) | {"data": data})


@pytest.mark.usefixtures("upgraded")
def test_only_todays_version_has_a_schema() -> None:
    """One of an old version would have to describe a model that is no more."""
    schemas = catalogue.json_schemas()
    assert Weighed.TYPE in schemas
    assert Weighed1.TYPE not in schemas


# --- stored states ---------------------------------------------------------------------------------------

each_value = pytest.mark.parametrize("kind", get_args(Value))
each_posting = pytest.mark.parametrize("kind", get_args(Posting))


@each_value
@generated
@given(data=st.data())
def test_a_neighbours_word_comes_back_from_its_row(kind: type[Value], data: st.DataObject) -> None:
    value = data.draw(st.none() | values(kind))
    told = Contribution(twin_ref("order/SO-1"), twin_ref("shipment/SHP-1"), data.draw(values(int)), value)
    assert rows.read_register(as_read(rows.register_row(told))) == told


@each_posting
@generated
@given(data=st.data())
def test_a_posting_comes_back_from_its_row(kind: type[Posting], data: st.DataObject) -> None:
    """With what is no part of its content: the events that justify it and the documents it waits for."""
    posting, owner = data.draw(values(kind)), twin_ref("order/SO-1")
    record = structs.replace(data.draw(values(Record)), posting=posting)
    record_again = rows.read_record(as_read(rows.posting_row(owner, record, "main", NOW)))
    assert whole(record_again) == whole(record)
    command = structs.replace(data.draw(values(Command)), posting=posting)
    queued = rows.read_command(as_read(rows.command_row(owner, command, "main", NOW) | {"number": 7}))
    assert whole(queued.command) == whole(command)
    assert (queued.number, queued.owner, queued.sent, queued.attempts) == (7, owner, False, 0)


def whole(told: Record | Command) -> dict[str, object]:
    return structs.asdict(told) | {"posting": asdict(told.posting)}


STOCK = twin_ref("stock/SKU-1@DC-1")
FOLDED_BY_STOCK = [
    found.model
    for found in CATALOGUE.values()
    if Kind.STOCK in found.model.KINDS and not issubclass(found.model, (Retracted, *REPLIES))
]


@generated
@given(
    st.lists(
        st.sampled_from(FOLDED_BY_STOCK).flatmap(
            lambda model: events(model, subject=st.just(STOCK), sequence=st.none())
        ),
        min_size=4,
        max_size=12,
        unique_by=lambda event: event.event_id,
    )
)
def test_a_checkpoint_comes_back_and_goes_on_as_the_whole_history(told: list[Event]) -> None:
    history = History(stock.RULES.initial, stock.evolve, checkpoint_every=2)
    for event in told:
        history.add(event)
    history.folded()
    kept = history.checkpoint()
    assert kept is not None
    again = loaded(dumped(kept))
    assert again == kept
    rest = History(stock.RULES.initial, stock.evolve, base=again)
    for event in filter(again.precedes, told):
        rest.add(event)
    assert len(rest) == len(told)
    assert rest.folded() == history.folded()


GAINED = 7


def grown(kind: Any) -> Any:
    """The class as a later release may have it: with one field more, which has a default."""
    if issubclass(kind, tuple):
        hints = get_type_hints(kind) | {"gained": int}
        later: Any = namedtuple("Later", [*hints], defaults=[GAINED])  # type: ignore[misc]
        later.__annotations__ = hints
        return later
    gained = dataclasses.field(default=GAINED, kw_only=True)
    return make_dataclass(kind.__name__, [("gained", int, gained)], bases=(kind,), frozen=True, slots=True)


PARTS = [
    found
    for found in vars(contributions).values()
    if isinstance(found, type) and issubclass(found, tuple) and found.__module__ == contributions.__name__
]


@pytest.mark.parametrize("kind", [*get_args(Value), *get_args(Posting), *PARTS])
@settings(generated, max_examples=5)
@given(data=st.data())
def test_what_was_stored_before_a_class_gained_a_field_still_loads(kind: Any, data: st.DataObject) -> None:
    stored = data.draw(values(kind))
    adapter = next(
        (one for one, union in ((VALUE, Value), (POSTING, Posting)) if kind in get_args(union)), None
    )
    text = (adapter or TypeAdapter(kind)).dump_json(stored)
    again = TypeAdapter(grown(kind)).validate_json(text)
    assert again.gained == GAINED
    assert all(getattr(again, name) == getattr(stored, name) for name in _fields(kind))


def test_a_posting_stored_before_it_named_its_events_still_loads() -> None:
    record = next(one for twin in World().take_each(golden()).twins.values() for one in twin.ledger)
    row = rows.posting_row(STOCK, record, "main", NOW)
    stored = json.loads(row["posting"])
    for name in ("justified_by", "requires"):
        del stored[name]
    again = rows.read_record(as_read(row | {"posting": json.dumps(stored)}))
    assert again == record
    assert (again.posting.justified_by, again.posting.requires) == ((), ())


def _telepathy() -> Callable[[], object]:
    told = Contribution(STOCK, twin_ref("order/SO-1"), 1, contributions.Interest())
    row = rows.register_row(told) | {"value": '{"tag":"telepathy"}'}
    return lambda: rows.read_register(as_read(row))


def _barter(read: Callable[[RowMapping], object]) -> Callable[[], object]:
    row = {"key": "invoice/SHP-1", "version": 3, "posting": '{"command":"barter"}'}
    return lambda: read(as_read(row))


def _stranger(**changed: object) -> Callable[[], object]:
    fact = StockAdjusted(adjustment_id="A-1", delta=1)
    row = rows.event_row(Event("/wms", "E-1", STOCK, DAY, fact), Arrival.NEW, NOW)
    return lambda: rows.read_event(as_read(row | changed))


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (_telepathy(), ["telepathy", "stock/SKU-1@DC-1", "order/SO-1"]),
        (_barter(rows.read_record), ["barter", "invoice/SHP-1", "3"]),
        (_barter(rows.read_command), ["barter", "invoice/SHP-1", "3"]),
        (_stranger(type="io.twinsync.stock.adjusted.v9"), ["adjusted.v9", "/wms", "E-1", "stock/SKU-1@DC-1"]),
        (_stranger(data='{"delta":"1"}'), ["adjustment_id", "/wms", "E-1", "stock/SKU-1@DC-1"]),
    ],
)
def test_a_stored_row_that_this_code_cannot_read_is_our_fault_and_named(
    read: Callable[[], object], named: list[str]
) -> None:
    with pytest.raises(InvariantViolated) as failure:
        read()
    assert all(one in str(failure.value) for one in named), failure.value
