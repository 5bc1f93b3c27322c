"""ERP instances as they are configured."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ops.settings import Settings
from ops.wiring import Installation


def test_the_short_form_is_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSYNC_ERP_CONNECTOR", "simulated")
    monkeypatch.setenv("TWINSYNC_ERP_URL", "http://127.0.0.1:1")
    settings = Settings()
    assert settings.erp_names == ("main",)
    assert settings.erp("main").url == "http://127.0.0.1:1"


def test_without_an_erp_there_is_no_gateway() -> None:
    assert Settings().erp_names == ()


def test_each_instance_has_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TWINSYNC_ERPS",
        '{"main": {"connector": "simulated", "url": "http://a", "rate_per_s": 4, "burst": 2,'
        ' "concurrency": 3},'
        ' "cloud": {"connector": "simulated", "url": "http://b", "breaker_failures": 9, "retry_share": 0.5}}',
    )
    installation = Installation(Settings())
    assert installation.erps == ("cloud", "main")
    slow, other = installation.pace("main"), installation.pace("cloud")
    assert (slow.rate_per_s, slow.burst, slow.concurrency) == (4, 2, 3)
    assert (other.breaker.failures_max, other.retries.share) == (9, 0.5)


@pytest.mark.parametrize(
    "wrong", ['{"connector": "sap"}', '{"connector": "amqp", "rate_per_s": 0}', '{"url": ""}']
)
def test_an_instance_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("TWINSYNC_ERPS", f'{{"main": {wrong}}}')
    with pytest.raises(ValidationError):
        Settings()


def test_a_company_is_routed_by_name_then_by_region_then_to_main() -> None:
    settings = Settings(company_erps={"eu-*": "cloud", "*-test": "lab", "eu-de": "berlin"})
    routes = {name: settings.erp_of(name) for name in ("eu-de", "eu-fr", "us-test", "eu-test", "us-ny")}
    assert routes == {
        "eu-de": "berlin",
        "eu-fr": "cloud",
        "us-test": "lab",
        "eu-test": "cloud",
        "us-ny": "main",
    }


def test_an_instance_without_an_address_says_which_setting_is_missing() -> None:
    with pytest.raises(ValueError, match="TWINSYNC_ERP_URL"):
        Installation(Settings(erp_connector="simulated")).connector("main")
