"""What a fold touched, kept with the state: two states of a twin are compared by what lies between them.

A trail is a chain that each event makes longer by one. A late event resumes from an earlier state, whose
trail is a part of the old one: the two meet there, and nothing that both share needs to be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    length: int = 0
    name: str = ""
    """Of what was touched last."""
    before: Trail | None = None

    def then(self, name: str) -> Trail:
        return Trail(self.length + 1, name, self)

    def __reduce__(self) -> tuple[type[Trail], tuple[()]]:
        """A trail means something in the process that made it alone: it is stored as a new beginning."""
        return (Trail, ())


def between(one: Trail, other: Trail) -> set[str] | None:
    """Names touched on either way since the two parted; None where they never met."""
    found: set[str] = set()
    while one is not other:
        longer, shorter = (one, other) if one.length >= other.length else (other, one)
        if longer.before is None:
            return None
        found.add(longer.name)
        one, other = longer.before, shorter
    return found
