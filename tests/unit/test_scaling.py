"""docs/scaling.md: its table follows from its own inputs by its own rules, and it names what there is."""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

from ops.metrics import NAMES
from ops.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()


def inputs() -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.M)}


def row(events_s: int, given: dict[str, float]) -> list[str]:
    commit_s = given["commit_us"] / 1e6
    hosts = ceil(events_s * (given["fold_us"] / 1e6 + commit_s) / given["busy_max"])
    ingest = ceil(events_s / given["ingest_events_s"])
    replicas = ceil(events_s * given["read_share"] / given["replica_reads_s"]) + 1
    workers = ceil((2 * hosts + 2 * ingest + replicas + 1) / given["worker_cores"]) + 1
    host_mb = given["process_mb"] + given["twin_kb"] * given["resident_twins"] / 1e3
    memory_mb = hosts * host_mb + ingest * given["process_mb"] + replicas * given["replica_mb"]
    postgres = ceil(events_s * commit_s / given["busy_max"]) + 2
    connections = (hosts + ingest + replicas + 2) * given["connections"]
    return [
        f"{events_s}",
        f"{hosts}",
        f"{workers} × {given['worker_cores']:.0f}",
        f"{ingest}",
        f"{replicas}",
        f"{postgres}, {connections:.0f}",
        "3",
        f"{memory_mb / 1e3:.1f}",
    ]


def test_every_row_follows_from_the_inputs() -> None:
    told = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| \d+ \|.+$", TEXT, re.M)
    ]
    assert told == [row(events_s, inputs()) for events_s in (500, 2_000, 10_000, 50_000)]


def test_it_names_only_settings_that_exist() -> None:
    named = {name.lower() for name in re.findall(r"TWINSYNC_([A-Z_]+)", TEXT)} - {"url"}  # the command line's
    assert {name for name in named if not name.endswith("_")} <= Settings.model_fields.keys()
    begun = [name for name in named if name.endswith("_")]
    assert all(any(field.startswith(name) for field in Settings.model_fields) for name in begun)


def test_it_names_only_metrics_that_exist() -> None:
    named = set(re.findall(r"\btwinsync_[a-z_]+", TEXT))
    assert named
    assert {name.removesuffix("_total") for name in named} <= NAMES


def test_its_pool_is_the_one_that_settings_have() -> None:
    settings = Settings()
    assert f"pool {settings.database_pool_size}, overflow {settings.database_pool_overflow}" in TEXT


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((\S+?)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
