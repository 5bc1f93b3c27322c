"""Who ends hosts that nobody needs asks for the placement as it is by then."""

from __future__ import annotations

import pytest

from twins.core.placement import Placement


class Growing:
    """Somebody lets more hosts share the twins while hosts are being ended."""

    def __init__(self) -> None:
        self.asked = 0

    async def placement(self) -> Placement:
        self.asked += 1
        return Placement(pooled_hosts=1 if self.asked == 1 else 4, version=self.asked)


class Ended:
    def __init__(self) -> None:
        self.names: list[str] = []

    def get_actor(self, name: str, _namespace: str) -> object:
        self.names.append(name)
        raise ValueError("none runs here")


async def test_a_host_that_is_named_meanwhile_is_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is imported here: once it is, it reads no environment that a live test sets."""
    from twins.runtime import cluster

    ended, placements = Ended(), Growing()
    monkeypatch.setattr(cluster, "running_hosts", lambda: ["host-1", "host-2", "host-3", "host-9"])
    monkeypatch.setattr(cluster.ray, "get_actor", ended.get_actor)
    await cluster.end_unneeded(placements)  # type: ignore[arg-type]
    assert ended.names == ["host-1", "host-9"]
