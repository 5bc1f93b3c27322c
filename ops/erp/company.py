"""A company in an empty Tryton: chart, fiscal years, warehouses, goods, parties, a key to its REST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from canonical.postings import Account
from ops.erp.rpc import Rpc, day, decimal

CURRENCY = "USD"
ACCOUNT_TYPES = {
    "receivable": "Accounts receivable",
    "payable": "Accounts payable",
    "cash": "Cash and Cash Equivalents",
    "revenue": "Revenue",
    "tax": "Liabilities and assets for current tax",
    "stock": "Inventories",
    "interim": "Selling, General and Administrative expenses",
    "cost": "Cost of Sales",
    "expense": "Expenses",
    "accrued": "Deferred tax liabilities and deferred tax assets",
}
"""Our word → name of an account type in Tryton's universal chart. Only ``stock`` and ``interim`` are marked
as stock there, which Tryton asks of the accounts that its stock moves are booked on."""

CHART: Mapping[Account, tuple[str, str, str]] = {
    Account.CASH_CLEARING: ("1010", "Cash clearing", "cash"),
    Account.RECEIVABLE: ("1100", "Receivable", "receivable"),
    Account.INVENTORY: ("1200", "Inventory", "stock"),
    Account.QUARANTINE: ("1210", "Inventory in quarantine", "stock"),
    Account.IN_TRANSIT: ("1220", "Inventory in transit", "stock"),
    Account.PAYABLE: ("2000", "Payable", "payable"),
    Account.ACCRUED_FREIGHT: ("2100", "Accrued freight", "accrued"),
    Account.TAX: ("2200", "Sales tax", "tax"),
    Account.REVENUE: ("4000", "Revenue", "revenue"),
    Account.FREIGHT_INCOME: ("4100", "Freight revenue", "revenue"),
    Account.COST_OF_GOODS: ("5000", "Cost of goods sold", "cost"),
    Account.COST_INTERIM: ("5100", "Stock interim, out", "interim"),
    Account.RETURN_INTERIM: ("5110", "Stock interim, in", "interim"),
    Account.VARIANCE: ("5200", "Inventory variance", "expense"),
    Account.SCRAP: ("5210", "Scrapped goods", "expense"),
    Account.FREIGHT_EXPENSE: ("5300", "Freight expense", "expense"),
}
"""Role → code, name, our word for its type."""
FIRST_YEAR = 2026
"""Of the events that tests tell."""
WALK_IN = "WALK-IN"
OPENING = ("3000", "Opening balance", "interim")


@dataclass(frozen=True, slots=True)
class Goods:
    sku: str
    unit_cost: str
    opening: Mapping[str, int]
    """Warehouse → how many lie there."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the company deals in, and with whom."""

    years: Sequence[int]
    warehouses: Sequence[str]
    goods: Sequence[Goods]
    parties: Sequence[str]
    transit: str = "TRANSIT"


@dataclass(frozen=True, slots=True)
class Founded:
    company: int
    key: str
    """What REST asks for."""


def sample(today: date) -> Plan:
    """A company that can be posted to from the first year of the tests to the next one from now."""
    return Plan(
        years=range(min(FIRST_YEAR, today.year - 1), today.year + 2),
        warehouses=("DC-01", "DC-02"),
        goods=(Goods("SKU-1", "8.00", {"DC-01": 100}), Goods("SKU-2", "2.50", {})),
        parties=(WALK_IN, "C-1", "7001", "ups"),
    )


def found(rpc: Rpc, plan: Plan) -> Founded:
    """Set it all up, once. Raises: RpcError."""
    company = _company(rpc)
    accounts, opening = _accounts(rpc, company)
    for year in plan.years:
        _fiscal_year(rpc, company, year)
    category = _category(rpc, accounts, opening)
    products = {goods.sku: _product(rpc, goods, category) for goods in plan.goods}
    warehouses = {code: _warehouse(rpc, code) for code in plan.warehouses}
    rpc.create("stock.location", {"name": "In transit", "code": plan.transit, "type": "storage"})
    for code in plan.parties:
        rpc.create(
            "party.party", {"name": code, "code": code, "addresses": [["create", [{"street": "1 Main St"}]]]}
        )
    for goods in plan.goods:
        for code, quantity in goods.opening.items():
            _opening(rpc, company, products[goods.sku], goods, warehouses[code], quantity, plan.years[0])
    rpc.write("product.category", [category], {"account_stock_in": accounts[Account.RETURN_INTERIM]})
    return Founded(company, _application_key(rpc))


def _company(rpc: Rpc) -> int:
    currency = rpc.create(
        "currency.currency", {"name": "US Dollar", "symbol": "$", "code": CURRENCY, "numeric_code": "840"}
    )
    party = rpc.create("party.party", {"name": "Twinsync Trading"})
    rpc.wizard(
        "company.company.config",
        ("company", {}),
        ("add", {"company": {"party": party, "currency": currency}}),
    )
    rpc.context = rpc.call("model.res.user.get_preferences", True)
    return int(rpc.context["company"])


def _accounts(rpc: Rpc, company: int) -> tuple[dict[Account, int], int]:
    """The universal chart, whose types are used, and one account of ours for every role and the opening."""
    template = rpc.call("model.ir.model.data.get_id", "account.account_template_root_en")
    form = {"account": {"account_template": template, "company": company}}
    rpc.wizard("account.create_chart", ("account", {}), ("create_account", form))
    types = {
        word: rpc.one("account.account.type", ["name", "=", name], ["company", "=", company])
        for word, name in ACCOUNT_TYPES.items()
    }
    parent = rpc.one("account.account", ["parent", "=", None], ["company", "=", company])

    def account(code: str, name: str, word: str) -> int:
        of_party = word in ("receivable", "payable")
        values: dict[str, Any] = {"code": code, "name": name, "type": types[word], "parent": parent}
        return rpc.create(
            "account.account",
            values | {"company": company, "party_required": of_party, "reconcile": of_party},
        )

    made = {role: account(*row) for role, row in CHART.items()}
    defaults = {
        "default_account_receivable": made[Account.RECEIVABLE],
        "default_account_payable": made[Account.PAYABLE],
    }
    rpc.write("account.configuration", [1], defaults)
    return made, account(*OPENING)


def _fiscal_year(rpc: Rpc, company: int, year: int) -> None:
    def sequence(type_name: str) -> int:
        kind = rpc.one("ir.sequence.type", ["name", "=", type_name])
        return rpc.create(
            "ir.sequence.strict", {"name": f"{type_name} {year}", "sequence_type": kind, "company": company}
        )

    invoices = sequence("Invoice")
    numbered = dict.fromkeys(
        (
            "out_invoice_sequence",
            "in_invoice_sequence",
            "out_credit_note_sequence",
            "in_credit_note_sequence",
        ),
        invoices,
    )
    made = rpc.create(
        "account.fiscalyear",
        {
            "name": str(year),
            "start_date": day(year, 1, 1),
            "end_date": day(year, 12, 31),
            "company": company,
            "move_sequence": sequence("Account Move"),
            "account_stock_method": "anglo_saxon",
            "invoice_sequences": [["create", [{"company": company, **numbered}]]],
        },
    )
    rpc.press("account.fiscalyear", made, "create_period")


def _category(rpc: Rpc, accounts: Mapping[Account, int], opening: int) -> int:
    """How goods are booked; until the company has its opening stock, what comes in is that."""
    return rpc.create(
        "product.category",
        {
            "name": "Goods",
            "accounting": True,
            "account_revenue": accounts[Account.REVENUE],
            "account_expense": accounts[Account.COST_OF_GOODS],
            "account_cogs": accounts[Account.COST_OF_GOODS],
            "account_stock": accounts[Account.INVENTORY],
            "account_stock_in": opening,
            "account_stock_out": accounts[Account.COST_INTERIM],
        },
    )


def _product(rpc: Rpc, goods: Goods, category: int) -> int:
    template = rpc.create(
        "product.template",
        {
            "name": goods.sku,
            "type": "goods",
            "default_uom": rpc.one("product.uom", ["name", "=", "Unit"]),
            "cost_price_method": "average",
            "account_category": category,
            "products": [["create", [{"suffix_code": goods.sku, "cost_price": decimal(goods.unit_cost)}]]],
        },
    )
    return rpc.one("product.product", ["template", "=", template])


def _warehouse(rpc: Rpc, code: str) -> int:
    """With a place for goods in quarantine beside the storage zone, told by its code."""
    zones = {
        zone: rpc.create("stock.location", {"name": f"{code} {zone}", "type": "storage"})
        for zone in ("input", "output", "storage")
    }
    warehouse = rpc.create(
        "stock.location",
        {"name": code, "code": code, "type": "warehouse"}
        | {f"{zone}_location": location for zone, location in zones.items()},
    )
    rpc.create(
        "stock.location",
        {"name": f"{code} quarantine", "code": f"{code}/quarantine", "type": "storage", "parent": warehouse},
    )
    return warehouse


def _opening(
    rpc: Rpc, company: int, product: int, goods: Goods, warehouse: int, quantity: int, year: int
) -> None:
    storage = rpc.read("stock.location", warehouse, "storage_location")["storage_location"]
    made = rpc.create(
        "stock.move",
        {
            "product": product,
            "unit": rpc.one("product.uom", ["name", "=", "Unit"]),
            "quantity": float(quantity),
            "from_location": rpc.one("stock.location", ["type", "=", "supplier"]),
            "to_location": storage,
            "unit_price": decimal(goods.unit_cost),
            "currency": rpc.one("currency.currency", ["code", "=", CURRENCY]),
            "company": company,
            "effective_date": day(year, 1, 1),
        },
    )
    rpc.press("stock.move", made, "do")


def _application_key(rpc: Rpc) -> str:
    user = rpc.one("res.user", ["login", "=", "admin"])
    made = rpc.create("res.user.application", {"user": user, "application": "rest"})
    found = rpc.read("res.user.application", made, "key", "state")
    if found["state"] != "validated":
        rpc.press("res.user.application", made, "validate_")
    return str(found["key"])
