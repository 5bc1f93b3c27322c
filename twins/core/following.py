"""Reading numbered commits one after the other, where a smaller number may be seen after a larger one."""

from __future__ import annotations

from collections.abc import Iterable


class Following:
    """How far somebody has read.

    A number is given out before its commit is seen, so one may be missing for a moment, or for ever. What is
    there is read at once; but who begins again begins at *settled*, below which nothing is to come.
    """

    def __init__(self, after: int) -> None:
        """*after*: nothing up to there is to be read."""
        self.newest = after
        self._missing: dict[int, int | None] = {}
        """Number → a transaction that began after it was missed; None: none is known yet."""

    @property
    def missing(self) -> frozenset[int]:
        """Numbers smaller than the newest that may still be seen."""
        return frozenset(self._missing)

    @property
    def settled(self) -> int:
        return min(self._missing, default=self.newest + 1) - 1

    def take(self, seen: Iterable[int], oldest_running: int, mark: int) -> None:
        """*seen*: ascending, what was found of the missing and of those after the newest.

        All transactions before *oldest_running* had ended when it was looked for them, and no transaction
        that had a number by then is later than *mark*.
        """
        self._missing = {
            number: mark if late is None else late
            for number, late in self._missing.items()
            if late is None or late >= oldest_running
        }
        for number in seen:
            self._missing.pop(number, None)
            self._missing.update(dict.fromkeys(range(self.newest + 1, number)))
            self.newest = max(self.newest, number)
