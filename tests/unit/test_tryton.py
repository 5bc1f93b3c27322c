"""What twinsync's side of Tryton knows without one: documents, settling, failures, settings."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal

import httpx
import pytest
from pydantic import ValidationError

from adapters.tryton.client import Objection, TrytonClient
from adapters.tryton.drafting import Draft, Heading, Ids, drafts, names
from adapters.tryton.models import Company, Party, Place, Product, TrytonSettings
from adapters.tryton.papers import INTERNAL, INVOICE, ISSUE, RECEIPT, STEPS, Paper, finished, models_of
from adapters.tryton.settlement import Line, booked, mirror, net, settling
from canonical.errors import TransientFailure
from canonical.movements import movements
from canonical.postings import Account, Posting, PostReturnReceipt, entries
from canonical.valuation import valued
from ops.erp.company import CHART
from ops.wiring import Installation
from tests.erp.postings import DAY, D, adjustment, credit_note, every, goods_issue, invoice, return_receipt

ACCOUNTS = {role: number for number, role in enumerate(Account, start=1)}
COMPANY = Company(1, 1, "USD", ACCOUNTS, 5, 6, transit=70, lost_and_found=71)
CUSTOMER = 9


def made(posting: Posting, *, sign: int = 1) -> tuple[Draft, ...]:
    named = names(posting)
    places = {zone: Place(10, 11 if zone[1] else 12) for zone in named.zones}
    ids = Ids(COMPANY, Party(3, 4, CUSTOMER), {sku: Product(8, 1) for sku in named.skus}, places)
    return drafts(posting, Heading("key@1", DAY, date(2026, 4, 1), sign), ids)


def ways(draft: Draft) -> list[tuple[int, int]]:
    ((_, moves),) = draft.values["moves"]
    return [(move["from_location"], move["to_location"]) for move in moves]


# --- documents


@pytest.mark.parametrize("model", list(STEPS))
def test_every_document_comes_to_its_end_from_every_state(model: str) -> None:
    assert any(not button for button in STEPS[model].values())
    assert "draft" in STEPS[model]


@pytest.mark.parametrize(
    ("posting", "sign", "model", "way"),
    [
        (goods_issue(), 1, ISSUE, (11, CUSTOMER)),
        (goods_issue(), -1, RECEIPT, (CUSTOMER, 11)),
        (return_receipt(sellable=(1, "8")), 1, RECEIPT, (CUSTOMER, 11)),
        (return_receipt(damaged=(1, "8")), 1, RECEIPT, (CUSTOMER, 12)),
        (return_receipt(damaged=(1, "8")), -1, ISSUE, (12, CUSTOMER)),
        (adjustment(3, "24"), 1, INTERNAL, (71, 11)),
        (adjustment(3, "24"), -1, INTERNAL, (11, 71)),
        (adjustment(-3, "-24"), 1, INTERNAL, (11, 71)),
        (adjustment(-3, "-24", "quarantine"), 1, INTERNAL, (12, 71)),
    ],
    ids=lambda one: getattr(one, "command", None),
)
def test_goods_go_one_way_and_a_reversal_the_other(
    posting: Posting, sign: int, model: str, way: tuple[int, int]
) -> None:
    (draft,) = made(posting, sign=sign)
    assert draft.model == model
    assert ways(draft) == [way]


def test_goods_of_a_receipt_that_are_another_sku_are_moved_and_valued_as_that() -> None:
    receipt = return_receipt(sellable=(1, "8"))
    ordered = receipt.goods[0]
    receipt = replace(receipt, goods=(ordered, replace(ordered, sku="SKU-2", cost=None)))
    assert names(receipt).skus == {"SKU-1", "SKU-2"}
    assert [shelf for shelf, _ in movements(receipt)] == [("SKU-1", "DC-01"), ("SKU-2", "DC-01")]
    whole = valued(receipt, {"SKU-2": D(9)})
    assert isinstance(whole, PostReturnReceipt)
    assert [part.cost for part in whole.goods] == [8, 9]


def test_scrapped_goods_never_enter_the_stock_again() -> None:
    assert made(return_receipt(scrap=(2, "16.00"))) == ()


@pytest.mark.parametrize("posting", [invoice(), credit_note()], ids=["invoice", "credit note"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_invoice_sums_to_what_the_posting_says_to_the_cent(posting: Posting, sign: int) -> None:
    (draft,) = made(posting, sign=sign)
    ((_, lines),) = draft.values["lines"]
    ((_, taxes),) = draft.values["taxes"]
    total = sum((Decimal(str(line["quantity"])) * line["unit_price"] for line in lines), D(0))
    receivable = net(booked(entries(posting), ACCOUNTS, party=3))[ACCOUNTS[Account.RECEIVABLE], 3]
    assert draft.model == INVOICE
    assert total + taxes[0]["amount"] == sign * receivable


def test_what_a_price_of_one_piece_leaves_over_is_a_line_of_its_own() -> None:
    whole = invoice(quantity=300, freight="0")
    line = replace(whole.lines[0], net=D("100.00"))
    (draft,) = made(replace(whole, lines=(line,)))
    ((_, lines),) = draft.values["lines"]
    assert [(line["quantity"], line["unit_price"]) for line in lines] == [
        (300.0, D("0.3333")),
        (1.0, D("0.01")),
    ]


def test_an_invoice_bears_no_date_of_ours_but_is_booked_on_the_posting_date() -> None:
    (draft,) = made(invoice())
    assert "invoice_date" not in draft.values
    assert draft.values["accounting_date"] == date(2026, 4, 1)


@pytest.mark.parametrize("posting", every()[1:], ids=lambda posting: posting.command)
def test_documents_of_a_posting_are_looked_for_where_they_are_made(posting: Posting) -> None:
    for sign in (1, -1):
        assert {draft.model for draft in made(posting, sign=sign)} <= set(models_of(posting.key))


def test_nothing_found_is_not_finished_nor_is_what_somebody_changed_by_hand() -> None:
    assert not finished([])
    assert not finished([Paper(INVOICE, 1, "on-hold", None)])


# --- settling


def test_what_was_booked_as_wanted_needs_no_entry() -> None:
    wanted = net(booked(entries(goods_issue()), ACCOUNTS, party=3))
    assert settling(wanted, wanted) == []


@pytest.mark.parametrize("posting", every(), ids=lambda posting: posting.command)
def test_what_is_settled_balances_and_completes_the_posting(posting: Posting) -> None:
    wanted = net(booked(entries(posting), ACCOUNTS, party=3))
    held = net([Line(ACCOUNTS[Account.INVENTORY], None, D("1.00"), D(0)), Line(99, None, D(0), D("1.00"))])
    lines = settling(wanted, held)
    assert sum(line.debit - line.credit for line in lines) == 0
    both = net([*lines, *settling(held, {})])
    assert {place: amount for place, amount in both.items() if amount} == {
        place: amount for place, amount in wanted.items() if amount
    }


def test_receivables_are_booked_on_a_party_and_a_mirror_keeps_it() -> None:
    lines = booked(entries(invoice()), ACCOUNTS, party=3)
    assert {line.party for line in lines if line.account == ACCOUNTS[Account.RECEIVABLE]} == {3}
    assert not any(net([*lines, *mirror(lines)]).values())


# --- failures


async def asked(status: int, body: bytes = b"{}", *, question: bool = False) -> object:
    client = TrytonClient("http://tryton/erp", "key", timeout_s=1.0, connections_max=1)
    client._http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(status, content=body))
    )
    try:
        if question:
            return await client.search("account.move", [])
        return await client.create("account.move", {}, company=1)
    finally:
        await client.close()


async def test_what_tryton_objects_to_is_told_in_its_words() -> None:
    told = json.dumps({"message": "The period is closed.", "description": ""}).encode()
    with pytest.raises(Objection, match=r"^The period is closed\.$"):
        await asked(400, told)


@pytest.mark.parametrize(("status", "word"), [(401, "our key"), (403, "our key"), (409, "409"), (500, "500")])
async def test_where_it_is_not_known_what_tryton_did_the_command_is_told_again(
    status: int, word: str
) -> None:
    """Also where it refuses our key: nothing may be lost while somebody mends that."""
    with pytest.raises(TransientFailure, match=word):
        await asked(status)


async def test_a_question_that_tryton_objects_to_is_asked_again() -> None:
    """A look-up has no refusal: the command must wait until somebody mends the access rights."""
    with pytest.raises(TransientFailure, match="not allowed"):
        await asked(400, b'{"message": "not allowed", "description": ""}', question=True)


async def test_an_answer_that_is_no_json_is_no_answer() -> None:
    with pytest.raises(TransientFailure, match="JSON"):
        await asked(200, b"<html>")


# --- settings


CODES = {role: code for role, (code, _, _) in CHART.items()}


def test_each_role_has_an_account_of_its_own() -> None:
    known = {"url": "http://tryton/erp", "key": "k", "walk_in": "W"}
    TrytonSettings(accounts=CODES, **known)
    with pytest.raises(ValidationError, match="two roles share"):
        TrytonSettings(accounts=CODES | {Account.TAX: CODES[Account.REVENUE]}, **known)
    with pytest.raises(ValidationError, match="no account for tax"):
        TrytonSettings(accounts={r: c for r, c in CODES.items() if r != Account.TAX}, **known)


def test_an_erp_instance_without_a_tryton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from ops.settings import Settings

    monkeypatch.setenv("TWINSYNC_ERP_CONNECTOR", "tryton")
    told = {"url": "http://tryton/erp", "key": "k", "walk_in": "W", "accounts": CODES}
    monkeypatch.setenv("TWINSYNC_TRYTON", json.dumps({"main": told}))
    installation = Installation(Settings())
    assert installation.connector("main") is not None
    with pytest.raises(ValueError, match="'emea' in TWINSYNC_TRYTON"):
        installation.connector("emea")
