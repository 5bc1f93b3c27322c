"""The command line, as a stranger at a terminal meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from canonical.envelope import parse_structured
from ops.cli import app
from tests.stories import placed

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason=f"real payloads are not beside the repository: no {SAMPLES}"
)
TELL_NOTHING = {"810.edi", "997.edi", "inventory_levels_update.json"}
"""An invoice for goods, an acknowledgement, and what can be sold: no twin keeps what they say."""


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: bytes
    stderr: bytes


def twinsync(*arguments: str | Path, stdin: bytes = b"") -> Done:
    done = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout_bytes, done.stderr_bytes)


@needs_samples
@pytest.mark.parametrize("adapter", ["shopify", "easypost", "x12"])
def test_every_sample_translates(adapter: str) -> None:
    files = sorted((SAMPLES / adapter).iterdir())
    assert files
    for file in files:
        if "bad" in file.name:
            continue
        done = twinsync("translate", "--adapter", adapter, file)
        assert done.returncode == 0, done.stderr
        told = [parse_structured(line) for line in done.stdout.splitlines()]
        assert bool(told) != (file.name in TELL_NOTHING), file
        if not told:
            assert b"tells nothing" in done.stderr


@needs_samples
def test_a_wrong_segment_count_is_refused_in_one_line_that_names_it_and_both_counts() -> None:
    done = twinsync("translate", "--adapter", "x12", SAMPLES / "x12" / "940_bad_SE01.edi")
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert "SE01" in line
    assert "12" in line
    assert "9" in line.partition("SE01")[2]


@pytest.mark.parametrize(
    ("adapter", "body"),
    [
        ("shopify", b"{"),
        ("shopify", b'{"id": 1}'),
        ("easypost", b"[]"),
        ("x12", b"not an interchange"),
        ("canonical", b'{"specversion": "1.0"}'),
        ("shopify", b""),
    ],
)
def test_a_broken_payload_exits_with_two_and_one_clear_line(adapter: str, body: bytes) -> None:
    done = twinsync("translate", "--adapter", adapter, "-", stdin=body)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1
    assert b"Traceback" not in done.stderr


def test_a_real_process_exits_with_two_and_keeps_standard_output_clean() -> None:
    command = [sys.executable, "-m", "ops.cli", "translate", "--adapter", "x12", "-"]
    done = subprocess.run(command, input=b"ISA*", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_adapter_or_file_exits_with_two() -> None:
    assert twinsync("translate", "--adapter", "fax", "-").returncode == 2
    missing = twinsync("translate", "--adapter", "x12", "no-such-file.edi")
    assert missing.returncode == 2
    assert b"no-such-file.edi" in missing.stderr


def test_canonical_events_come_out_as_they_went_in() -> None:
    body = placed().structured()
    assert twinsync("translate", "--adapter", "canonical", "-", stdin=body).stdout == body + b"\n"


def test_publishing_to_nobody_says_so_and_may_be_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(placed().structured())
    done = twinsync("publish", "--adapter", "canonical", "--url", "http://127.0.0.1:9", file)
    assert done.returncode == 1
    assert b"try again" in done.stderr


def test_simulate_prints_a_verdict_with_what_it_injected() -> None:
    done = twinsync("simulate", "--seed", "5", "--orders", "6", "--faults", "duplicate,erp-timeout")
    assert done.returncode == 0
    verdict = json.loads(done.stdout)
    assert (verdict["seed"], verdict["ok"]) == (5, True)
    assert sorted(verdict["injected"]) == ["duplicate", "erp-timeout"]
    assert all(verdict["injected"].values())


def test_several_simulations_print_their_sums() -> None:
    done = twinsync("simulate", "--seed", "5", "--runs", "3", "--orders", "4", "--jobs", "2")
    assert done.returncode == 0
    sums = json.loads(done.stdout)
    assert (sums["runs"], sums["passed"], sums["failed"]) == (3, 3, 0)


def test_a_simulation_that_fails_is_shrunk_and_says_how_to_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from twins.core import order

    monkeypatch.setattr(order, "share", lambda whole, before, part, total, code: whole)
    done = twinsync("simulate", "--seed", "3", "--orders", "6", "--faults", "reorder")
    assert done.returncode == 1
    verdict, shrunk = (json.loads(line) for line in done.stdout.splitlines())
    assert not verdict["ok"]
    assert len(shrunk["shrunk"]["order_numbers"]) == 1
    (number,) = shrunk["shrunk"]["order_numbers"]
    assert f"twinsync simulate --seed 3 --only {number} --faults none".encode() in done.stderr


def test_simulate_refuses_a_fault_that_it_does_not_have() -> None:
    done = twinsync("simulate", "--faults", "earthquake")
    assert done.returncode == 2
    assert b"erp-timeout" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["demo", "up", "translate", "publish", "simulate", "schemas", "show", "explain", "what-if", "gaps"],
)
def test_every_command_explains_itself(command: str) -> None:
    done = twinsync(command, "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5


def test_schemas_are_json_schemas_by_type() -> None:
    told = json.loads(twinsync("schemas").stdout)
    assert "io.twinsync.order.placed.v1" in told
    assert told["io.twinsync.order.placed.v1"]["type"] == "object"


def test_the_state_diagrams_in_the_docs_are_those_of_the_code() -> None:
    kept = Path(__file__).parents[2] / "docs" / "states.md"
    assert kept.read_text() == twinsync("states").stdout.decode(), "run: twinsync states > docs/states.md"
