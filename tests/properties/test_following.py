"""Whoever follows commits misses none, whatever the order in which they take their numbers and end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from twins.core.following import Following

WRITERS = 4
LIMIT = 3
"""Commits that are read at once."""


@dataclass
class Database:
    """Transactions as PostgreSQL runs them: a number is taken within one, and seen once it has ended well."""

    transactions: int = 10
    numbers: int = 0
    running: dict[int, tuple[int, int | None]] = field(default_factory=dict)
    """Writer → its transaction, and the number that it has taken."""
    seen: set[int] = field(default_factory=set)

    def step(self, writer: int, ends_well: bool) -> None:
        """Begin, take a number, or end."""
        if writer not in self.running:
            self.running[writer] = (self.begin(), None)
            return
        transaction, number = self.running.pop(writer)
        if number is None:
            self.numbers += 1
            self.running[writer] = (transaction, self.numbers)
        elif ends_well:
            self.seen.add(number)

    def begin(self) -> int:
        self.transactions += 1
        return self.transactions

    def oldest_running(self) -> int:
        return min((transaction for transaction, _ in self.running.values()), default=self.transactions + 1)


@dataclass
class Reader:
    database: Database
    following: Following = field(default_factory=lambda: Following(0))
    read: list[int] = field(default_factory=list)

    def look(self, *between: tuple[int, bool]) -> bool:
        """*between*: what happens after it was asked who runs, and before it is looked what is there."""
        missing, newest = self.following.missing, self.following.newest
        oldest_running = self.database.oldest_running()
        mark = self.database.begin() if missing else 0
        for step in between:
            self.database.step(*step)
        found = sorted(n for n in self.database.seen if n > newest or n in missing)[:LIMIT]
        self.following.take(found, oldest_running, mark)
        self.read += found
        return bool(found)


Step = st.tuples(st.integers(0, WRITERS - 1), st.booleans())
Steps = st.lists(st.tuples(st.lists(Step, max_size=6), st.lists(Step, max_size=3)), max_size=25)
Played = list[tuple[list[tuple[int, bool]], list[tuple[int, bool]]]]
"""What happens before each look, and what within it."""


def end_all(database: Database) -> None:
    for writer in list(database.running):
        while writer in database.running:
            database.step(writer, True)


def looks(reader: Reader, played: Played) -> Iterator[None]:
    """One after the other, and what happens around them."""
    for before, between in played:
        for step in before:
            reader.database.step(*step)
        reader.look(*between)
        yield


@given(Steps)
def test_each_commit_is_read_once(
    played: Played,
) -> None:
    reader = Reader(Database())
    database = reader.database
    for _ in looks(reader, played):
        pass
    end_all(database)
    while reader.look():
        pass
    assert sorted(reader.read) == sorted(database.seen)
    reader.look()
    reader.look()
    reader.look()
    assert not reader.following.missing, "what will never come is not waited for"
    assert reader.following.settled == reader.following.newest


@given(Steps)
def test_who_begins_again_where_all_was_settled_misses_nothing(
    played: Played,
) -> None:
    reader = Reader(Database())
    database = reader.database
    for _ in looks(reader, played):
        reader.following = Following(reader.following.settled)
    end_all(database)
    while reader.look():
        pass
    assert set(reader.read) == database.seen


@given(Steps)
def test_nothing_comes_where_all_was_settled(
    played: Played,
) -> None:
    reader = Reader(Database())
    database = reader.database
    for _ in looks(reader, played):
        settled = reader.following.settled
        assert {n for n in database.seen if n <= settled} <= set(reader.read)
        assert all(n is None or n > settled for _, n in database.running.values())
