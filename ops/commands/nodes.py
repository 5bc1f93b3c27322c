"""The nodes of a Ray cluster, from the command line."""

from __future__ import annotations

import asyncio
import os

import typer
from rich.table import Table

from ops.commands.asked import err
from ops.settings import Settings

SHOWN = 12
"""Characters of a node's id, which are enough to tell nodes apart."""


def rebalance() -> None:
    """Spread the twin hosts evenly over the nodes, after one was added, while events go on coming.

    Run where RAY_ADDRESS names the cluster, with the TWINSYNC_* variables of the service. Each host commits
    what it has in hand and goes on elsewhere; what is told or asked meanwhile waits a second or two.
    """
    if "RAY_ADDRESS" not in os.environ:
        err.print("RAY_ADDRESS names no cluster: a twinsync on one machine has nowhere to move hosts to")
        raise typer.Exit(2)
    from ops.local import local_ray, ray_home

    settings = Settings()
    with ray_home(settings.data_dir) as home, local_ray(home):
        from ops.wiring import Installation
        from twins.runtime.moving import rebalance as spread

        with err.status("moving hosts"):
            moves = asyncio.run(spread(Installation(settings)))
    if not moves:
        err.print("Every node has its share of the hosts already.")
        return
    table = Table("host", "from node", "to node", box=None, header_style="dim")
    for move in moves:
        table.add_row(move.host, move.origin[:SHOWN], move.target[:SHOWN])
    err.print(table)
