"""What was committed lately is known, and no more of it than there is room for."""

from __future__ import annotations

from twins.runtime.known import Known


def digests(first: int, last: int) -> list[bytes | None]:
    return [number.to_bytes(16) for number in range(first, last)]


def test_at_least_the_latest_half_is_known_and_never_more_than_all() -> None:
    known, most = Known(100), 100
    for number in range(1_000):
        known.add(digests(number, number + 1))
        latest = digests(max(0, number - most // 2 + 1), number + 1)
        assert all(one in known for one in latest)
        assert sum(one in known for one in digests(0, number + 1)) <= most + 1


def test_an_event_in_binary_form_is_never_known() -> None:
    known = Known()
    known.add([None])
    assert None not in known
