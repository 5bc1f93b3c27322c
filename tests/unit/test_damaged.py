"""Where reading JSON failed, named by its field; and what can still be read."""

from __future__ import annotations

import contextlib

import jiter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical.damaged import place, spread, told_of_itself
from canonical.envelope import parse
from canonical.errors import RejectedMessage
from tests.stories import placed

SOUND = placed().structured()
damaged = st.binary(max_size=200) | st.builds(
    lambda start, noise, end: SOUND[:start] + noise + SOUND[end:],
    st.integers(0, len(SOUND)),
    st.binary(max_size=8)
    | st.text(max_size=8).map(str.encode)
    | st.sampled_from([b"-", b"1e999", b'"', b"\\u"]),
    st.integers(0, len(SOUND)),
)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"data":{"x":1,"a":1,"b":{},"a":2}}', "data.a"),
        (b'{"a":{"b":0},"a":2}', "a"),
        (b'{"data":[{"a":0},{"q":NaN}]}', "data.1.q"),
        (b'{"a":\n{"k": Infinity}}', "a.k"),
        (b'{"d":{"a":"abc\xff"}}', "d.a"),
        (b'{"d":{"a":"\\ud800"}}', "d.a"),
        (b'{"a":"x\x00"}', "a"),
        (b'{"data":{"quantity":01}}', "data.quantity"),
        (b'{"data":{"quantity":"1}}', "data.quantity"),
        (b'{"a":{"b":1', "a.b"),
        (b"[" * 300, ".".join("0" * 12) + ".…"),
        (b"", ""),
        (b"hello", ""),
        (b"\xef\xbb\xbf{}", ""),
    ],
)
def test_a_fault_is_placed(body: bytes, field: str) -> None:
    with pytest.raises(ValueError, match="line") as error:
        jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="decimal")
    assert place(body, error.value) == field
    found = place(body, error.value)
    assert found == field or (field.endswith("…") and found.startswith("0.0"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"source":"/a","sequence":7,"type":"t","subject":"order/1","data":', {"sequence": 7}),
        (b'{"source":"/a","type":"t","subject":"order/1","data":{\xff', {}),
        (b'{"source":"/a","type":"t","subject":"order/1" nonsense', {}),
    ],
)
def test_what_comes_before_the_damage_is_read(body: bytes, told: dict[str, int]) -> None:
    assert told_of_itself(body, {}) == {"source": "/a", "type": "t", "subject": "order/1", **told}


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b'"\xff' + b"x" * 10_000, b"\xff", b'{"source":1,"type":"\\u0000"}', b"[" * 100_000]
)
def test_nothing_is_read_where_nothing_can_be(body: bytes) -> None:
    assert told_of_itself(body, {}) == {}


def test_headers_tell_more_than_the_body() -> None:
    assert told_of_itself(b"{}", {"CE-Source": "/a", "ce-sequence": "9", "other": "x"}) == {
        "source": "/a",
        "sequence": 9,
    }


def test_a_body_is_spread_as_it_was_spelled() -> None:
    assert spread(b'{"a":1.10,"a":"\xc3\xa4"}') == '{\n  "a": 1.10,\n  "a": "ä"\n}'
    assert spread(b"ISA*00*") == "ISA*00*"
    assert spread(b"\xff") is None


@given(damaged, st.dictionaries(st.sampled_from(["ce-id", "ce-type", "CE-time", "a"]), st.text(max_size=9)))
def test_no_damage_breaks_the_reading(body: bytes, headers: dict[str, str]) -> None:
    spread(body)
    told_of_itself(body, headers)
    for content in ({}, headers):
        with contextlib.suppress(RejectedMessage):
            parse(body, content)


@given(damaged)
def test_a_fault_is_placed_whatever_it_is(body: bytes) -> None:
    try:
        jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="decimal")
    except ValueError as error:
        place(body, error)
