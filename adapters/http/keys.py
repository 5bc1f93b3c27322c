"""API keys: who asks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, Request

from adapters.http.problems import Problem


class Keys:
    """A dependency of every route that asks for a key; it notes who asks in ``request.state.asked_by``."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """*keys*: key → the name of whoever holds it."""
        self._holders = [(key.encode(), name) for key, name in keys.items() if key]

    def holder(self, x_api_key: bytes, authorization: bytes) -> str | None:
        """By the values of the two headers, which may be empty. None: nobody."""
        told = x_api_key or authorization.removeprefix(b"Bearer ").strip()
        names = [name for key, name in self._holders if secrets.compare_digest(told, key)]
        return names[0] if names else None

    async def __call__(
        self,
        request: Request,
        authorization: Annotated[str, Header()] = "",
        x_api_key: Annotated[str, Header()] = "",
    ) -> None:
        holder = self.holder(x_api_key.encode("latin-1"), authorization.encode("latin-1"))
        if holder is None:
            raise Problem(
                401,
                "API key needed",
                "send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            )
        request.state.asked_by = holder
