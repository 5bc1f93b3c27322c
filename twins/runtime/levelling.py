"""Hosts spread evenly over nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """A host that goes from one node to another; nodes by their Ray id."""

    host: str
    origin: str
    target: str


def levelled(where: Mapping[str, str], nodes: Sequence[str]) -> list[Move]:
    """The fewest moves after which no node has two hosts more than another.

    *where*: host → its node. Raises: ValueError for no nodes.
    """
    on: dict[str, list[str]] = {node: [] for node in sorted(nodes)}
    homeless: list[tuple[str, str]] = []
    for host, node in sorted(where.items()):
        if node in on:
            on[node].append(host)
        else:
            homeless.append((host, node))
    moves: list[Move] = []
    for host, node in homeless:
        moves.append(Move(host, node, _emptiest(on)))
        on[moves[-1].target].append(host)
    while len(on[fullest := max(on, key=lambda node: len(on[node]))]) > len(on[_emptiest(on)]) + 1:
        target = _emptiest(on)
        moves.append(Move(on[fullest].pop(), fullest, target))
        on[target].append(moves[-1].host)
    return moves


def _emptiest(on: Mapping[str, Sequence[str]]) -> str:
    return min(on, key=lambda node: len(on[node]))
