"""How a Tryton is reached, and what it calls the things that postings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from canonical.postings import Account


class TrytonSettings(BaseModel):
    """One Tryton database. Master data is told by code, as its users see it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    """With the name of the database: ``http://127.0.0.1:8000/erp``."""
    key: SecretStr
    """Of a user application with access to REST."""
    accounts: Mapping[Account, str]
    """Role → code of the account; each role has one of its own, so that balances can be read back."""
    companies: Mapping[str, int] = {"main": 1}
    """Our company → Tryton's id of it."""
    journal: str = "MISC"
    """Of the entries that are ours; Tryton books its stock moves in the one that it is set up with."""
    revenue_journal: str = "REV"
    walk_in: str
    """Party of what names no customer, as payments do, and of customers that Tryton does not know."""
    transit: str = "TRANSIT"
    """Location of goods between two warehouses."""
    quarantine: str = "{warehouse}/quarantine"
    """Code of the location, below a warehouse, of goods that are not sellable."""
    remember_s: Annotated[float, Field(ge=0)] = 300.0
    """How long master data is taken to be what it was when it was read."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    connections_max: Annotated[int, Field(ge=1)] = 4

    @model_validator(mode="after")
    def _one_account_each(self) -> TrytonSettings:
        if missing := set(Account) - set(self.accounts):
            raise ValueError(f"no account for {', '.join(sorted(missing))}")
        if len(set(self.accounts.values())) < len(self.accounts):
            raise ValueError("two roles share an account")
        return self


Zone = tuple[str, bool]
"""Our location, and whether it is where sellable goods lie."""


@dataclass(frozen=True, slots=True)
class Product:
    id: int
    unit: int


@dataclass(frozen=True, slots=True)
class Place:
    warehouse: int
    storage: int


@dataclass(frozen=True, slots=True)
class Party:
    id: int
    address: int | None
    customer_location: int


@dataclass(frozen=True, slots=True)
class Company:
    """What every document of a company needs to know."""

    id: int
    currency: int
    currency_code: str
    accounts: Mapping[Account, int]
    journal: int
    revenue_journal: int
    transit: int
    lost_and_found: int
