"""Both files for Ray's launcher are what it takes, and name only settings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FILES = (ROOT / "cluster.yaml", ROOT / "ops" / "deploy" / "own-machines.yaml")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def text(request: pytest.FixtureRequest) -> str:
    return request.param.read_text()  # type: ignore[no-any-return]


@pytest.fixture
def config(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)  # type: ignore[no-any-return]


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    """Ray is imported here alone: once it is, it reads no environment that a live test sets."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    complete = prepare_config(config)
    validate_config(complete)
    return complete  # type: ignore[no-any-return]


def environment(config: dict[str, Any]) -> dict[str, str]:
    """What the head writes into twinsync.env."""
    (written,) = re.findall(r"<<'ENVIRONMENT'\n(.*)ENVIRONMENT", "".join(config["head_setup_commands"]), re.S)
    return dict(line.split("=", 1) for line in written.splitlines())


def test_rays_own_validator_takes_it(config: dict[str, Any]) -> None:
    prepared(config)


def test_the_validator_would_refuse_a_typing_error(config: dict[str, Any]) -> None:
    config["max_wrokers"] = config.pop("max_workers")
    with pytest.raises(Exception, match=r"."):
        prepared(config)


def test_it_names_only_settings_that_exist(text: str) -> None:
    named = set(re.findall(r"TWINSYNC_([A-Z_]+)", text))
    assert named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_its_settings_have_values_that_settings_take(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(config).items():
        monkeypatch.setenv(name, value)
    assert Settings().http_host == "0.0.0.0"


def test_no_secret_is_written_into_it(config: dict[str, Any], text: str) -> None:
    secret = {"TWINSYNC_DATABASE_URL", "TWINSYNC_AMQP_URL", "TWINSYNC_API_KEYS", "TWINSYNC_WEBHOOK_SECRETS"}
    assert not secret & environment(config).keys()
    assert not re.search(r"://\S+:\S+@", text)
    assert any(file.endswith("secrets.env") for file in config["file_mounts"].values())


def test_every_node_installs_from_the_lock_file(config: dict[str, Any]) -> None:
    assert any(
        "--require-hashes -r ~/twinsync/requirements.lock" in step for step in config["setup_commands"]
    )


def test_files_go_where_commands_look_for_them(config: dict[str, Any]) -> None:
    home = f"/home/{config['auth']['ssh_user']}"
    assert config["file_mounts"].keys() == {f"{home}/twinsync", f"{home}/twinsync-secrets.env"}


def test_the_head_offers_no_cpu(config: dict[str, Any]) -> None:
    """So that nothing which asks for one is placed there, and the autoscaler counts on none."""
    head = prepared(config)
    assert "--num-cpus=0 " in "".join(config["head_start_ray_commands"])
    if head["provider"]["type"] != "local":
        assert head["available_node_types"][head["head_node_type"]]["resources"] == {"CPU": 0}


def test_one_worker_may_fall(config: dict[str, Any]) -> None:
    """The rule of docs/scaling.md: two cores a host and an ingest, one a replica and for the gateways."""
    complete, told = prepared(config), environment(config)
    (worker,) = (
        kind
        for name, kind in complete["available_node_types"].items()
        if complete["provider"]["type"] == "local" or name != complete["head_node_type"]
    )
    (started,) = re.findall(r"--num-cpus=(\d+)", "".join(config["worker_start_ray_commands"])) or [None]
    each = int(started) if started else worker["resources"]["CPU"]
    hosts, ingests = int(told["TWINSYNC_POOLED_HOSTS"]), int(told["TWINSYNC_INGEST_MAX"])
    cores = 2 * hosts + 2 * ingests + int(told["TWINSYNC_HTTP_REPLICAS"]) + 1
    assert (worker["min_workers"] - 1) * each >= cores


def test_nodes_of_a_cloud_name_their_image_and_their_head_can_start_others() -> None:
    """Ray's own choice has a Python that is too old; its autoscaler needs boto3, which is not in the lock."""
    config = yaml.safe_load(FILES[0].read_text())
    assert config["provider"]["type"] == "aws"
    assert all("ImageId" in kind["node_config"] for kind in config["available_node_types"].values())
    assert any("boto3" in step for step in config["head_setup_commands"])
