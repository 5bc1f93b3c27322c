from __future__ import annotations

from collections import Counter

import pytest

from adapters.simulated_erp.faults import Fault, Faults
from adapters.simulated_erp.models import FaultSettings

ROUGH = FaultSettings(seed=7, fail_rate=0.2, timeout_after_posting_rate=0.1, forget_reply_rate=0.3)
KEYS = [f"invoice/SHP-{number}@1" for number in range(2_000)]


def drawn(settings: FaultSettings, keys: list[str]) -> dict[str, Fault]:
    faults = Faults(settings)
    return {key: faults.draw(key) for key in keys}


def test_a_seed_repeats_its_faults_in_whatever_order_the_requests_race() -> None:
    assert drawn(ROUGH, KEYS) == drawn(ROUGH, KEYS[::-1])


def test_another_seed_makes_other_faults() -> None:
    assert drawn(ROUGH, KEYS) != drawn(FaultSettings(8, 0.0, 0.2, 0.1, 0.3), KEYS)


def test_a_command_that_is_told_again_draws_again() -> None:
    """A fault that stuck to its key would never let the command through."""
    faults = Faults(ROUGH)
    assert {faults.draw("invoice/SHP-1@1") for _ in range(100)} == set(Fault)


def test_faults_strike_at_their_rates() -> None:
    struck = Counter(drawn(ROUGH, KEYS).values())
    assert struck[Fault.FAIL] / len(KEYS) == pytest.approx(0.2, abs=0.03)
    assert struck[Fault.TIMEOUT_AFTER_POSTING] / len(KEYS) == pytest.approx(0.1, abs=0.03)
    assert struck[Fault.FORGET_REPLY] / len(KEYS) == pytest.approx(0.3, abs=0.03)


def test_what_struck_is_counted() -> None:
    faults = Faults(ROUGH)
    struck = Counter(faults.draw(key) for key in KEYS)
    del struck[Fault.NONE]
    assert faults.report().dealt == {fault.value: count for fault, count in struck.items()}


def test_without_rates_nothing_strikes() -> None:
    assert set(drawn(FaultSettings(seed=7), KEYS).values()) == {Fault.NONE}


def test_rates_that_add_up_to_more_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at most one fault"):
        Faults(FaultSettings(fail_rate=0.6, forget_reply_rate=0.6))
