"""cluster.yaml is what Ray's own launcher takes, and names only settings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())  # type: ignore[no-any-return]


def validate(config: dict[str, Any]) -> None:
    """Ray is imported here alone: once it is, it reads no environment that a live test sets."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_rays_own_validator_takes_it(config: dict[str, Any]) -> None:
    validate(config)


def test_the_validator_would_refuse_a_typing_error(config: dict[str, Any]) -> None:
    config["availabel_node_types"] = config.pop("available_node_types")
    with pytest.raises(Exception, match=r"."):
        validate(config)


def test_it_names_only_settings_that_exist() -> None:
    named = set(re.findall(r"TWINSYNC_([A-Z_]+)", (ROOT / "cluster.yaml").read_text()))
    assert named
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_every_node_installs_from_the_lock_file(config: dict[str, Any]) -> None:
    assert any(
        "--require-hashes -r ~/twinsync/requirements.lock" in step for step in config["setup_commands"]
    )
