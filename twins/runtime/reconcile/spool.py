"""An ERP's documents on disk, to be taken by posting key: they come in the order of posting."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import groupby
from operator import attrgetter
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter

from canonical.identity import PostingKey
from twins.ports import HeldDocument

_HELD: TypeAdapter[HeldDocument] = TypeAdapter(HeldDocument)
_KEYS_MAX = 500


class Spool:
    """A private database in a temporary file (SQLite's own, for an empty name), gone when closed.

    Memory: SQLite's page cache, 2 MB, whatever the number of documents; on disk about 300 bytes each.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.execute("CREATE TABLE held (at INTEGER PRIMARY KEY, key TEXT NOT NULL, body BLOB)")
        self._database.execute("CREATE INDEX held_by_key ON held (key)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, documents: Iterable[HeldDocument]) -> None:
        rows = [(one.posting_key, _HELD.dump_json(one)) for one in documents]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO held (key, body) VALUES (?, ?)", rows)
        self._database.execute("COMMIT")

    def take(self, keys: Iterable[PostingKey]) -> dict[PostingKey, list[HeldDocument]]:
        """Those of some keys, each key's in the order of posting; they are here no longer."""
        wanted, found = list(keys), dict[PostingKey, list[HeldDocument]]()
        for start in range(0, len(wanted), _KEYS_MAX):
            chunk = wanted[start : start + _KEYS_MAX]
            marks = ",".join("?" * len(chunk))
            among = f"FROM held WHERE key IN ({marks})"
            with closing(self._database.execute(f"SELECT body {among} ORDER BY at", chunk)) as rows:
                for (body,) in rows:
                    document = _HELD.validate_json(body)
                    found.setdefault(document.posting_key, []).append(document)
            self._database.execute(f"DELETE {among}", chunk)
        return found

    def rest(self) -> Iterator[tuple[PostingKey, list[HeldDocument]]]:
        """What nobody took, by key."""
        with closing(self._database.execute("SELECT body FROM held ORDER BY key, at")) as rows:
            documents = (_HELD.validate_json(body) for (body,) in rows)
            for key, some in groupby(documents, key=attrgetter("posting_key")):
                yield key, list(some)
