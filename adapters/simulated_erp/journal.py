"""The books on disk: one change a line, appended and never rewritten, so that a restart forgets nothing.

Each line is handed to the operating system before it is answered for: it survives the process, even killed,
but not a power cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from adapters.simulated_erp.books import Books
from adapters.simulated_erp.models import CHANGE, Change


class Journal:
    def __init__(self, path: Path) -> None:
        """Owns the file until closed. Raises: OSError."""
        self._file: BinaryIO = path.open("a+b")

    def replay(self, books: Books) -> None:
        """Bring new books to where they were. A last line cut short by a crash was never answered for.

        Raises: pydantic.ValidationError where a whole line is not a change.
        """
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            books.apply(CHANGE.validate_json(line))
            whole += len(line)
        self._file.truncate(whole)

    def append(self, change: Change) -> None:
        self._file.write(CHANGE.dump_json(change) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
