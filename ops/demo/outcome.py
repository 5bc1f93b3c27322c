"""What a run of a day came to: twins, live postings, and the books of the ERP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from adapters.simulated_erp.connector import SimulatedErpConnector
from adapters.simulated_erp.models import TrialBalance
from canonical.identity import Kind
from canonical.postings import Posting
from ops.wiring import Installation
from twins.ports import TwinFilter
from twins.runtime.cluster import RayCalls
from twins.runtime.host import Aspect
from twins.runtime.ingest import Directory

TWINS_AT_ONCE = 500


@dataclass(slots=True)
class Outcome:
    """What one run of the day came to."""

    documents: dict[str, dict[str, Any]]
    """Twin → its state, but for its version, which counts commits."""
    postings: dict[str, Posting]
    versions: dict[str, int]
    """Posting key → how many times it has been posted."""
    balance: TrialBalance
    counts: dict[str, float]
    messages: int
    events: int
    seconds: float
    erp_faults: list[str] = field(default_factory=list)
    """Posting keys for which the ERP does not hold exactly one live document."""

    @property
    def sound(self) -> bool:
        return self.balance.in_balance and not self.erp_faults


async def outcome_of(
    installation: Installation, counts: dict[str, float], messages: int, events: int, seconds: float
) -> Outcome:
    store = installation.store()
    erp = SimulatedErpConnector(installation.settings.erp_url or "")
    try:
        live = await store.live_postings()
        standing = {document.posting_key async for document in erp.documents(live=True)}
        doubled = (await erp.live_documents()).doubled
        return Outcome(
            documents=await _documents(installation, store),
            postings={key: record.posting for key, record in live.items()},
            versions={key: record.version for key, record in live.items()},
            balance=await erp.trial_balance(),
            counts=counts,
            messages=messages,
            events=events,
            seconds=seconds,
            erp_faults=sorted((standing ^ live.keys()) | doubled.keys()),
        )
    finally:
        await store.close()
        await erp.close()


async def _documents(installation: Installation, store: Any) -> dict[str, dict[str, Any]]:
    directory = Directory(installation.placement, RayCalls(installation))
    found: dict[str, dict[str, Any]] = {}
    for kind in Kind:
        after: str | None = None
        while rows := await store.rows(TwinFilter(kind, after=after), TWINS_AT_ONCE):
            refs = [row.ref for row in rows]
            for ref, answer in zip(refs, await directory.read(Aspect.DOCUMENT, refs), strict=True):
                assert answer is not None, f"{ref} is listed and cannot be read"
                document = from_json(answer[1])
                del document["version"]
                found[str(ref)] = document
            after = str(refs[-1])
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
