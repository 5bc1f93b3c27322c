"""Who has no key is nobody, however keys are configured."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from adapters.http.keys import Keys
from ops.settings import Settings


@pytest.mark.parametrize("told", ["oms:", "oms: ", "oms:one-secret,finance:", ":", "finance:two,oms:\t"])
def test_an_empty_key_is_refused_by_its_name(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the variable that should hold it is not set."""
    monkeypatch.setenv("TWINSYNC_API_KEYS", told)
    with pytest.raises(ValidationError, match="is empty") as refused:
        Settings()
    assert "one" not in str(refused.value), "the other keys are not shown"


def test_keys_with_and_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSYNC_API_KEYS", "oms:one,,two")
    assert Settings().key_names == {"one": "oms", "two": "key 3fc4ccfe"}


def test_who_brings_nothing_holds_no_key() -> None:
    keys = Keys({"": "everybody", "right": "oms"})
    assert keys.holder(b"", b"") is None
    assert keys.holder(b"", b"Bearer ") is None
    assert keys.holder(b"right", b"") == "oms"
    assert keys.holder(b"", b"Bearer right") == "oms"
    assert keys.holder(b"wrong", b"Bearer right") is None
