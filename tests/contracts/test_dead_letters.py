"""Dead letters: kept once, found again, and closed with a trail, on every database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text

from adapters.sql.store import SqlStore
from tests.stories import placed
from twins.ports import Fault, LetterFilter, LetterState, Publication, Rejected, Settled

BAD = Publication(b'{"source": "/shop/eu", "type": "io.twinsync.order.placed.v1", "sequence": "7", \xff')
WHY = Rejected("not JSON", "data")
ANY = LetterFilter(state=None)


async def kept(store: SqlStore, message: Publication = BAD, why: Rejected = WHY) -> int:
    await store.keep([(message, why)])
    return (await store.letters(ANY, 1))[0].number


async def test_a_letter_is_kept_once_however_often_it_comes(store: SqlStore) -> None:
    await store.keep([(BAD, WHY), (BAD, WHY)])
    await store.keep([(BAD, Rejected("not JSON at all", fault=Fault.TWINSYNC))])
    (letter,) = await store.letters(ANY, 10)
    assert (letter.seen, letter.reason, letter.field, letter.fault) == (
        3,
        "not JSON at all",
        "",
        Fault.TWINSYNC,
    )
    assert letter.first_seen <= letter.last_seen


async def test_what_can_be_read_of_a_damaged_letter_is_there_to_be_looked_for(store: SqlStore) -> None:
    await kept(store)
    (letter,) = await store.letters(LetterFilter(source="/shop/eu", numbered=True), 10)
    assert (letter.type, letter.sequence, letter.size_bytes) == (
        "io.twinsync.order.placed.v1",
        7,
        len(BAD.body),
    )


async def test_a_letter_comes_back_as_it_was_sent(store: SqlStore) -> None:
    message = Publication(b"\x00\xff", {"ce-id": "nul \x00, 端末"}, "text/plain")
    found = await store.letter(await kept(store, message))
    assert found is not None
    assert found[1] == message
    assert await store.letter(404) is None


async def test_a_reason_that_quotes_anything_is_stored(store: SqlStore) -> None:
    await kept(store, why=Rejected("quotes \x00 and \ud800 " + "x" * 100_000, "data.\x00"))
    (letter,) = await store.letters(ANY, 1)
    assert letter.reason.startswith("quotes \\x00 and \\ud800 xxx")
    assert len(letter.reason) < 1_100
    assert letter.field == "data.\\x00"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (LetterFilter(), [3, 2, 1]),
        (LetterFilter(reason="50% o"), [2]),
        (LetterFilter(field="time"), [3]),
        (LetterFilter(fault=Fault.TWINSYNC), [1]),
        (LetterFilter(before=3), [2, 1]),
        (LetterFilter(state=LetterState.DISCARDED), []),
        (LetterFilter(source="/none"), []),
    ],
)
async def test_letters_are_found_newest_first(
    store: SqlStore, wanted: LetterFilter, found: list[int]
) -> None:
    reasons = [Rejected("a", fault=Fault.TWINSYNC), Rejected("50% off"), Rejected("c", "time")]
    await store.keep([(Publication(b"%d" % number), why) for number, why in enumerate(reasons)])
    assert [letter.number for letter in await store.letters(wanted, 10)] == found


async def test_what_is_settled_is_closed_by_somebody_and_in_the_audit_trail(store: SqlStore) -> None:
    number = await kept(store)
    await store.settle("ops", [Settled(number, "discard", LetterState.DISCARDED, why="a test")])
    assert await store.letters(LetterFilter(), 10) == []
    (letter,) = await store.letters(LetterFilter(state=LetterState.DISCARDED), 10)
    assert (letter.closed_by, letter.why) == ("ops", "a test")
    (deed,) = await store.audited(10, subject=f"dead-letter/{number}")
    assert (deed.by, deed.action, deed.detail) == (
        "ops",
        "discard",
        {"reason": "a test", "became": "discarded"},
    )


@pytest.mark.parametrize(
    ("closed", "after"),
    [(LetterState.REPLAYED, LetterState.OPEN), (LetterState.DISCARDED, LetterState.DISCARDED)],
)
async def test_a_letter_that_comes_again_is_open_again_only_where_it_had_been_taken(
    store: SqlStore, closed: LetterState, after: LetterState
) -> None:
    number = await kept(store)
    await store.settle("ops", [Settled(number, "settle", closed)])
    assert await kept(store) == number
    (letter,) = await store.letters(ANY, 10)
    assert (letter.state, letter.seen) == (after, 2)
    assert (letter.closed_by is None) == (after is LetterState.OPEN)


async def test_a_replay_that_is_refused_is_open_with_the_new_reason(store: SqlStore) -> None:
    number = await kept(store)
    refused = Rejected("still not JSON", "data.lines")
    await store.settle("ops", [Settled(number, "replay", LetterState.OPEN, refused)])
    (letter,) = await store.letters(LetterFilter(), 10)
    assert (letter.reason, letter.field) == ("still not JSON", "data.lines")
    (deed,) = await store.audited(10, subject=f"dead-letter/{number}")
    assert deed.detail["refused"] == "still not JSON"


@pytest.mark.parametrize("refused", [None, Rejected("still wrong", "data")])
async def test_an_edited_letter_stands_for_the_one_it_replaces(
    store: SqlStore, refused: Rejected | None
) -> None:
    number = await kept(store)
    edited = Publication(placed().structured())
    new = await store.replace("ops", number, edited, refused, "-a\n+b")
    before, after = await store.letter(number), await store.letter(new)
    assert before is not None
    assert after is not None
    assert (before[0].state, before[0].replaced_by) == (LetterState.REPLACED, new)
    assert (after[0].replaces, after[1]) == (number, edited)
    assert after[0].state is (LetterState.REPLAYED if refused is None else LetterState.OPEN)
    (deed,) = await store.audited(10, subject=f"dead-letter/{number}")
    assert deed.detail["diff"] == "-a\n+b"


@pytest.mark.parametrize("refused", [None, Rejected("still wrong", "data")])
async def test_a_letter_of_which_only_the_content_type_is_edited_stays_the_same_letter(
    store: SqlStore, refused: Rejected | None
) -> None:
    number = await kept(store)
    found = await store.letter(number)
    assert found is not None
    edited = replace(found[1], content_type="application/cloudevents+json")
    assert await store.replace("ops", number, edited, refused, "-a\n+b") == number
    after = await store.letter(number)
    assert after is not None
    assert after[1] == edited
    assert (after[0].replaces, after[0].replaced_by) == (None, None)
    if refused is None:
        assert (after[0].state, after[0].closed_by) == (LetterState.REPLAYED, "ops")
    else:
        assert (after[0].state, after[0].closed_by) == (LetterState.OPEN, None)
        assert (after[0].reason, after[0].field) == ("still wrong", "data")
    assert (await store.open_letters())[0] == (refused is not None)


async def test_how_many_are_open_and_since_when(store: SqlStore) -> None:
    assert await store.open_letters() == (0, None)
    number = await kept(store)
    await kept(store, replace(BAD, body=b"other"))
    many, oldest = await store.open_letters()
    found = await store.letter(number)
    assert found is not None
    assert (many, oldest) == (2, found[0].first_seen)


async def test_letters_of_the_first_schema_are_kept(database_url: str) -> None:
    from alembic import command
    from alembic.config import Config

    from adapters.sql.migrate import MIGRATIONS

    def first(connection) -> None:  # type: ignore[no-untyped-def]
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")

    store = SqlStore(database_url)
    async with store._writer.begin() as connection:
        await connection.run_sync(first)
        await connection.execute(
            text(
                "INSERT INTO dead_letters (number, digest, body, headers, reason, field, seen, first_seen, "
                "last_seen) VALUES (5, :digest, :body, '{}', 'old', '', 1, :at, :at)"
            ),
            {"digest": b"d", "body": b"b", "at": "2026-03-02T08:00:00.000000+00:00"},
        )
    await store.migrate()
    (old,) = await store.letters(LetterFilter(), 10)
    assert (old.number, old.reason, old.size_bytes) == (5, "old", 1)
    assert await kept(store) == 6
    await store.close()
