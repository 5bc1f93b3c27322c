"""Alarms look at metrics that exist, and each has a runbook that names commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main

from ops.cli import app
from ops.metrics import CATALOGUE, NAMES
from ops.settings import Settings
from tests.alerts import DOWN, ROOT, RULES, RUNBOOKS, Block, Rule, Sample, blocks, rules

RULES_TESTED = Path(__file__).with_name("alerts.promtool.yml")
EACH_RULE = pytest.mark.parametrize("rule", rules().values(), ids=lambda rule: rule.alert)


def named(exposed: str) -> str:
    """The catalogue's name of a metric."""
    counters = {f"{entry.name}_total": entry.name for entry in CATALOGUE if entry.kind == "counter"}
    return counters.get(exposed, exposed)


@EACH_RULE
def test_a_rule_looks_at_a_metric_of_the_catalogue(rule: Rule) -> None:
    assert named(rule.metric) in NAMES | {DOWN}
    assert rule.increase == rule.metric.endswith("_total")


def test_every_alarm_has_a_runbook_under_its_name_and_every_runbook_an_alarm() -> None:
    def words(alert: str) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()

    assert {rule.runbook for rule in rules().values()} == {
        str(page.relative_to(ROOT)) for page in RUNBOOKS.glob("*.md") if page.name != "README.md"
    }
    for rule in rules().values():
        assert rule.runbook == f"ops/runbooks/{words(rule.alert)}.md"
        assert (ROOT / rule.runbook).read_text().startswith(f"# {rule.alert}\n")


@EACH_RULE
def test_a_runbook_says_all_that_one_needs_at_night(rule: Rule) -> None:
    text = (ROOT / rule.runbook).read_text()
    for part in ("**Means.**", "**Touches**", "## Look", "## Do\n", "## Over", "## Do not"):
        assert part in text, part
    assert any(block.by_hand is None for block in blocks(rule.runbook))
    for page in re.findall(r"\]\(([\w-]+\.md)\)", text):
        assert (RUNBOOKS / page).exists(), page


@EACH_RULE
def test_a_runbook_names_only_commands_metrics_and_settings_that_exist(rule: Rule) -> None:
    text = (ROOT / rule.runbook).read_text()
    known = _commands()
    for line in re.findall(r"^twinsync (.+)$|`twinsync (.+?)`", text, re.MULTILINE):
        said = "".join(line).split()
        assert said[0] in known or " ".join(said[:2]) in known, said
    for metric in re.findall(r"\btwinsync_\w+", text):
        assert named(metric) in NAMES, metric
    for setting in re.findall(r"\bTWINSYNC_(\w+)", text):
        assert setting in {"URL", "API_KEY"} or setting.lower() in Settings.model_fields, setting


def _commands() -> set[str]:
    root = typer.main.get_command(app)
    found: set[str] = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found |= {name} if inner is None else {f"{name} {one}" for one in inner}
    return found


@EACH_RULE
def test_the_scripts_of_a_runbook_are_bash(rule: Rule) -> None:
    for block in blocks(rule.runbook):
        if block.by_hand is None:
            done = subprocess.run(
                ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stderr


def test_blocks_are_of_three_kinds() -> None:
    infos = {block.info for rule in rules().values() for block in blocks(rule.runbook)}
    assert {info for info in infos if not info.startswith("by-hand ")} == {"sh", "sh fails"}
    assert Block("by-hand ask", "").by_hand == "ask"


def test_a_rule_holds_for_the_series_that_it_names_alone() -> None:
    rule = rules()["DatabaseAway"]
    away, there = (Sample("twinsync_ready", {"check": "database"}, value) for value in (0.0, 1.0))
    assert rule.holds([away])
    assert not rule.holds([there, Sample("twinsync_ready", {"check": "broker"}, 0.0)])
    grown = rules()["DeadlinesPassed"]
    two, three = (Sample("twinsync_deadlines_passed_total", {"actor": "host-0"}, n) for n in (2.0, 3.0))
    assert grown.holds([three], before=[two])
    assert not grown.holds([three], before=[three])


@pytest.mark.parametrize("command", [["check", "rules", str(RULES)], ["test", "rules", str(RULES_TESTED)]])
def test_prometheus_itself_takes_the_rules_and_raises_what_it_should(command: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: it comes with Debian's package prometheus")
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tested_by_prometheus_itself() -> None:
    tested = set(re.findall(r"alertname: (\w+)", RULES_TESTED.read_text()))
    assert tested == rules().keys()
