"""The alerting rules and their runbooks as the tests read them."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[1]
RULES, RUNBOOKS = ROOT / "ops/alerts.yml", ROOT / "ops/runbooks"
DOWN = "up"
"""What Prometheus itself says of whom it scrapes."""

_EXPRESSION = re.compile(
    r"""(?P<increase>increase\()?
        (?P<metric>\w+) (?:\{(?P<label>\w+)="(?P<value>\w+)"\})?
        (?(increase)\[\w+\]\))
        \ (?P<compare>>|==)\ (?P<threshold>\d+)""",
    re.VERBOSE,
)
_COMPARE = {">": operator.gt, "==": operator.eq}


@dataclass(frozen=True, slots=True)
class Sample:
    metric: str
    labels: Mapping[str, str]
    value: float


def samples(exposition: str | None, job: str = "twinsync") -> list[Sample]:
    """What a scrape leaves in Prometheus; None: nobody answered."""
    up = Sample(DOWN, {"job": job}, float(exposition is not None))
    families = text_string_to_metric_families(exposition or "")
    return [up] + [Sample(one.name, one.labels, one.value) for family in families for one in family.samples]


@dataclass(frozen=True, slots=True)
class Rule:
    alert: str
    runbook: str
    metric: str
    labels: Mapping[str, str]
    compare: str
    threshold: float
    increase: bool

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> Self:
        """Raises: ValueError for an expression that is more than one metric and a threshold."""
        found = _EXPRESSION.fullmatch(rule["expr"])
        if found is None:
            raise ValueError(f"{rule['alert']}: {rule['expr']}")
        labels = {found["label"]: found["value"]} if found["label"] else {}
        increase = found["increase"] is not None
        threshold = float(found["threshold"])
        runbook = rule["annotations"]["runbook"]
        return cls(rule["alert"], runbook, found["metric"], labels, found["compare"], threshold, increase)

    def holds(self, now: Sequence[Sample], before: Sequence[Sample] = ()) -> bool:
        """Whether Prometheus would raise it of any series, *for* aside."""
        was = dict(self._series(before)) if self.increase else {}
        compare = _COMPARE[self.compare]
        return any(compare(value - was.get(labels, 0), self.threshold) for labels, value in self._series(now))

    def _series(self, some: Sequence[Sample]) -> Iterator[tuple[frozenset[tuple[str, str]], float]]:
        for one in some:
            if one.metric == self.metric and self.labels.items() <= one.labels.items():
                yield frozenset(one.labels.items()), one.value


def rules() -> dict[str, Rule]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: Rule.of(rule) for group in groups for rule in group["rules"]}


@dataclass(frozen=True, slots=True)
class Block:
    """A step of a runbook: a script that ends well, one that *fails* on purpose, or something *by hand*."""

    info: str
    text: str

    @property
    def fails(self) -> bool:
        return self.info == "sh fails"

    @property
    def by_hand(self) -> str | None:
        """Name of the step that only a person can take."""
        first, _, name = self.info.partition(" ")
        return name if first == "by-hand" else None


def blocks(runbook: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = (ROOT / runbook).read_text()
    return [Block(*found) for found in re.findall(r"^```([^\n]+)\n(.*?)^```$", text, re.M | re.S)]
