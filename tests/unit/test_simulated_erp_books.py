from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from adapters.simulated_erp.books import Books, DocumentFilter, Manners, Posted, Refusal
from adapters.simulated_erp.models import Document, Erased, Instruction, PeriodClosing, StandardCosts
from canonical.identity import PostingKey
from canonical.postings import (
    Account,
    Action,
    Command,
    Entry,
    GoodsLine,
    InvoiceLine,
    PostCreditNote,
    PostGoodsIssue,
    Posting,
    PostInvoice,
    PostReturnReceipt,
    PostStockAdjustment,
    PostTransfer,
    ReserveStock,
    ReturnedGoods,
)

D = Decimal
DAY = date(2026, 3, 2)
COLUMNS = (
    Account.RECEIVABLE,
    Account.INVENTORY,
    Account.COST_INTERIM,
    Account.COST_OF_GOODS,
    Account.REVENUE,
    Account.FREIGHT_INCOME,
    Account.TAX,
)


def issue(shipment: str, quantity: int, cost: str | None = None) -> PostGoodsIssue:
    line = GoodsLine("1", "SKU-1", "DC-01", D(quantity), None if cost is None else D(cost))
    return PostGoodsIssue(
        key=PostingKey(f"goods-issue/{shipment}"),
        event_date=DAY,
        company="main",
        currency="USD",
        shipment_id=shipment,
        lines=(line,),
    )


def invoice(
    shipment: str, quantity: int, *, net: str, tax: str, freight: str = "0", cost: str | None = None
) -> PostInvoice:
    line = InvoiceLine("1", "SKU-1", D(quantity), D(net), D(tax), None if cost is None else D(cost))
    return PostInvoice(
        key=PostingKey(f"invoice/{shipment}"),
        event_date=DAY,
        company="main",
        currency="USD",
        order_id="SO-1",
        shipment_id=shipment,
        customer_id="C-1",
        lines=(line,),
        freight=D(freight),
        freight_tax=D(0),
        goods_issue_digest=shipment,
    )


def receipt(quantity: int, cost: str | None = None, *dispositions: str) -> PostReturnReceipt:
    parts = dispositions or ("sellable",)
    each = D(quantity) / len(parts)
    return PostReturnReceipt(
        key=PostingKey("return-receipt/RMA-1/1"),
        event_date=DAY,
        company="main",
        currency="USD",
        order_id="SO-1",
        return_id="RMA-1",
        line_id="1",
        sku="SKU-1",
        goods=tuple(
            ReturnedGoods(
                location="DC-01", disposition=part, quantity=each, cost=None if cost is None else D(cost)
            )
            for part in parts
        ),
    )


def credit(quantity: int, *, net: str, tax: str, cost: str | None = None) -> PostCreditNote:
    return PostCreditNote(
        key=PostingKey("credit-note/RMA-1/1"),
        event_date=DAY,
        company="main",
        currency="USD",
        order_id="SO-1",
        return_id="RMA-1",
        line_id="1",
        customer_id="C-1",
        sku="SKU-1",
        quantity=D(quantity),
        net=D(net),
        tax=D(tax),
        cost=None if cost is None else D(cost),
    )


def told(
    posting: Posting,
    *,
    version: int = 1,
    action: Action = Action.POST,
    on: date | None = None,
) -> Instruction:
    key = Command(action, version, posting).idempotency_key
    return Instruction(key, action, version, posting, on)


def undone(posting: Posting, *, version: int = 1, on: date | None = None) -> Instruction:
    return told(posting, version=version, action=Action.REVERSE, on=on)


def posted(books: Books, instruction: Instruction) -> Document:
    outcome = books.take(instruction)
    assert isinstance(outcome, Posted), outcome
    return outcome.document


def refused(books: Books, instruction: Instruction) -> str:
    before = books.trial_balance(), len(books.documents)
    outcome = books.take(instruction)
    assert isinstance(outcome, Refusal), outcome
    assert (books.trial_balance(), len(books.documents)) == before, "a refusal posts nothing"
    return outcome.code


def columns(books: Books) -> str:
    """As domain.md prints them: cumulated debit/credit, a dash where nothing was booked."""
    balance = books.trial_balance()
    pairs = [balance.of(account) for account in COLUMNS]
    return " ".join(
        "-" if not any(pair) else "/".join(f"{one.normalize():f}" for one in pair) for pair in pairs
    )


def golden_run(unit: Decimal | None) -> Iterator[tuple[list[Posting], str]]:
    """Postings of each step, and the table's row; inventory without the opening stock of 800."""

    def cost(quantity: int) -> str | None:
        return None if unit is None else str(unit * quantity)

    yield [issue("SHP-1", 6, cost(6))], "- 0/48 48/0 - - - -"
    yield (
        [invoice("SHP-1", 6, net="120.00", tax="9.90", cost=cost(6))],
        "129.9/0 0/48 48/48 48/0 0/120 - 0/9.9",
    )
    yield (
        [
            issue("SHP-2", 4, cost(4)),
            invoice("SHP-2", 4, net="80.00", tax="6.60", freight="7.50", cost=cost(4)),
        ],
        "224/0 0/80 80/80 80/0 0/200 0/7.5 0/16.5",
    )
    yield (
        [receipt(2, cost(2)), credit(2, net="40.00", tax="3.30", cost=cost(2))],
        "224/43.3 16/80 80/80 80/16 40/200 0/7.5 3.3/16.5",
    )


@pytest.mark.parametrize("unit", [D("8.00"), None], ids=["cost named", "cost left to the ERP"])
def test_the_golden_run_of_the_real_erp_gives_its_trial_balance_at_every_step(unit: Decimal | None) -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    for postings, row in golden_run(unit):
        for posting in postings:
            posted(books, told(posting))
        assert columns(books) == row
        assert books.trial_balance().in_balance
    assert books.trial_balance().of(Account.RETURN_INTERIM) == (D(16), D(16))


def test_reversing_every_document_of_the_golden_run_nets_every_account_to_zero() -> None:
    books = Books()
    postings = [posting for step, _ in golden_run(D("8.00")) for posting in step]
    for posting in postings:
        posted(books, told(posting))
    for posting in reversed(postings):
        posted(books, undone(posting))
    assert all(row.debit == row.credit for row in books.trial_balance().rows)
    assert books.live_documents().total == 0
    assert books.live_documents().doubled == {}


def test_a_reversal_mirrors_what_was_posted_and_not_what_it_would_cost_today() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    original = posted(books, told(issue("SHP-1", 6)))
    books.apply(StandardCosts({"SKU-1": D("9.99")}))
    reversal = posted(books, undone(issue("SHP-1", 6)))
    assert original.entries == (
        Entry(Account.COST_INTERIM, D("48.00"), D(0)),
        Entry(Account.INVENTORY, D(0), D("48.00")),
    )
    assert reversal.entries == (
        Entry(Account.COST_INTERIM, D(0), D("48.00")),
        Entry(Account.INVENTORY, D("48.00"), D(0)),
    )
    assert reversal.reverses == original.number
    assert books.documents[0] == replace(original, reversed_by=reversal.number)


def test_a_reversal_names_the_version_that_it_undoes() -> None:
    books = Books()
    first, second = issue("SHP-1", 6, "48"), issue("SHP-1", 5, "40")
    posted(books, told(first))
    posted(books, told(second, version=2))
    assert posted(books, undone(first)).reverses == "DOC-000001"
    assert books.live_documents().not_one == {}
    assert books.trial_balance().of(Account.COST_INTERIM) == (D(88), D(48))


def test_an_unknown_document_cannot_be_reversed() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    assert refused(books, undone(issue("SHP-2", 6, "48"))) == "nothing-to-reverse"
    assert refused(books, undone(issue("SHP-1", 6, "48"), version=2)) == "nothing-to-reverse"


def test_a_document_is_reversed_once() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    posted(books, undone(issue("SHP-1", 6, "48")))
    again = replace(undone(issue("SHP-1", 6, "48")), idempotency_key="another")
    assert refused(books, again) == "already-reversed"


def test_the_same_idempotency_key_twice_is_one_document() -> None:
    books = Books()
    first = books.take(told(issue("SHP-1", 6, "48")))
    second = books.take(told(issue("SHP-1", 6, "48.00")))
    assert isinstance(first, Posted)
    assert isinstance(second, Posted)
    assert (first.again, second.again) == (False, True)
    assert second.document == first.document
    assert books.trial_balance().of(Account.COST_INTERIM) == (D(48), D(0))


def test_a_repeated_post_shows_that_the_document_was_reversed_since() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    posted(books, undone(issue("SHP-1", 6, "48")))
    assert posted(books, told(issue("SHP-1", 6, "48"))).reversed_by == "DOC-000002"


def test_an_idempotency_key_is_not_taken_for_another_content() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    assert refused(books, told(issue("SHP-1", 5, "40"))) == "idempotency-key-reused"


def test_a_naive_erp_posts_a_repeated_key_again_and_shows_it() -> None:
    books = Books(Manners(idempotent=False))
    for _ in range(2):
        posted(books, told(issue("SHP-1", 6, "48")))
    assert books.live_documents().doubled == {"goods-issue/SHP-1": 2}
    assert [one.number for one in books.find("goods-issue/SHP-1@1")] == ["DOC-000001", "DOC-000002"]
    posted(books, undone(issue("SHP-1", 6, "48")))
    assert books.live_documents().not_one == {}


def test_a_lenient_erp_takes_a_second_live_document_and_shows_it() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    posted(books, told(issue("SHP-1", 5, "40"), version=2))
    assert books.live_documents().total == 2
    assert books.live_documents().doubled == {"goods-issue/SHP-1": 2}


def test_a_strict_erp_takes_the_next_version_only_after_the_reversal() -> None:
    books = Books(Manners(one_live_document=True))
    posted(books, told(issue("SHP-1", 6, "48")))
    assert refused(books, told(issue("SHP-1", 5, "40"), version=2)) == "already-posted"
    posted(books, undone(issue("SHP-1", 6, "48")))
    posted(books, told(issue("SHP-1", 5, "40"), version=2))
    assert books.live_documents().not_one == {}


def test_nothing_is_posted_into_a_closed_period() -> None:
    books = Books()
    late = issue("SHP-1", 6, "48")
    books.apply(PeriodClosing(DAY))
    assert refused(books, told(late)) == "period-closed"
    document = posted(books, told(late, on=date(2026, 3, 3)))
    assert (document.posting.event_date, document.posting_date) == (DAY, date(2026, 3, 3))


def test_a_reversal_into_a_closed_period_is_refused_as_well() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 6, "48")))
    books.apply(PeriodClosing(DAY))
    assert refused(books, undone(issue("SHP-1", 6, "48"))) == "period-closed"
    posted(books, undone(issue("SHP-1", 6, "48"), on=date(2026, 3, 3)))


def test_a_period_is_closed_for_one_company() -> None:
    books = Books()
    books.apply(PeriodClosing(DAY, "other"))
    posted(books, told(issue("SHP-1", 6, "48")))


def test_a_document_without_currency_is_refused() -> None:
    assert refused(Books(), told(replace(issue("SHP-1", 6, "48"), currency=""))) == "currency-missing"
    assert refused(Books(), told(replace(issue("SHP-1", 6, "48"), currency="XYZ"))) == "currency-missing"


def test_an_unbalanced_document_is_refused() -> None:
    def lopsided(posting: Posting) -> tuple[Entry, ...]:
        return (
            Entry(Account.COST_INTERIM, D("48.00"), D(0)),
            Entry(Account.INVENTORY, D(0), D("47.99")),
        )

    assert refused(Books(booked=lopsided), told(issue("SHP-1", 6, "48"))) == "unbalanced"


def test_goods_of_a_disposition_without_account_are_refused() -> None:
    assert refused(Books(), told(receipt(2, "16", "eaten"))) == "account-missing"


def test_goods_without_any_known_cost_are_booked_at_nothing() -> None:
    books = Books()
    assert posted(books, told(issue("SHP-1", 6))).entries == ()
    assert books.live_documents().total == 1


def test_every_part_of_a_return_is_valued_for_its_own_quantity() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    posted(books, told(receipt(3, None, "sellable", "quarantine", "scrap")))
    balance = books.trial_balance()
    for account in (Account.INVENTORY, Account.QUARANTINE, Account.SCRAP):
        assert balance.of(account) == (D(8), D(0))
    assert balance.of(Account.RETURN_INTERIM) == (D(0), D(24))


def test_a_standard_cost_is_rounded_to_the_currency() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("0.335")}))
    posted(books, told(issue("SHP-1", 3)))
    posted(books, told(replace(issue("SHP-2", 3), currency="JPY")))
    costs = {row.currency: row.debit for row in books.trial_balance().rows if row.debit}
    assert costs == {"USD": D("1.01"), "JPY": D("1")}


def test_a_shortage_is_booked_against_inventory_at_standard_cost() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    shortage = PostStockAdjustment(
        key=PostingKey("stock-adjustment/CNT-1/SKU-1@DC-01"),
        event_date=DAY,
        company="main",
        currency="USD",
        sku="SKU-1",
        location="DC-01",
        status="sellable",
        delta=D(-2),
        cost=None,
    )
    posted(books, told(shortage))
    assert books.trial_balance().of(Account.INVENTORY) == (D(0), D(16))
    assert books.trial_balance().of(Account.VARIANCE) == (D(16), D(0))


def test_both_legs_of_a_transfer_clear_what_is_in_transit() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    for leg, location in (("out", "DC-01"), ("in", "DC-02")):
        posted(books, told(_transfer(leg, location)))
    assert books.trial_balance().of(Account.IN_TRANSIT) == (D(24), D(24))


def _transfer(leg: str, location: str) -> PostTransfer:
    return PostTransfer(
        key=PostingKey(f"transfer/T-1/SKU-1/{leg}"),
        event_date=DAY,
        company="main",
        currency="USD",
        transfer_id="T-1",
        leg="out" if leg == "out" else "in",
        sku="SKU-1",
        location=location,
        quantity=D(3),
        cost=None,
    )


def test_a_reservation_is_a_document_that_moves_no_money() -> None:
    books = Books()
    reservation = ReserveStock(
        key=PostingKey("reserve/SO-1/1/DC-01"),
        event_date=DAY,
        company="main",
        currency="USD",
        order_id="SO-1",
        line_id="1",
        sku="SKU-1",
        location="DC-01",
        quantity=D(6),
    )
    assert posted(books, told(reservation)).entries == ()
    assert books.trial_balance().rows == ()
    posted(books, undone(reservation))
    assert books.live_documents().not_one == {"reserve/SO-1/1/DC-01": 0}


def test_amounts_of_two_companies_or_currencies_are_never_added_up() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 1, "8")))
    posted(books, told(replace(issue("SHP-2", 1, "9"), currency="EUR")))
    posted(books, told(replace(issue("SHP-3", 1, "10"), company="other")))
    debits = [(row.company, row.currency, row.debit) for row in books.trial_balance().rows if row.debit]
    assert debits == [("main", "EUR", D(9)), ("main", "USD", D(8)), ("other", "USD", D(10))]
    assert books.trial_balance().in_balance


def test_a_trial_balance_that_only_balances_across_currencies_does_not() -> None:
    rows = {row.currency: row for row in _two_currencies().trial_balance().rows if row.debit}
    skewed = replace(rows["USD"], debit=D(0), credit=rows["EUR"].debit)
    assert not replace(_two_currencies().trial_balance(), rows=(rows["EUR"], skewed)).in_balance


def _two_currencies() -> Books:
    books = Books()
    posted(books, told(issue("SHP-1", 1, "8")))
    posted(books, told(replace(issue("SHP-2", 1, "8"), currency="EUR")))
    return books


def test_pages_show_each_document_once_in_the_order_of_posting() -> None:
    books = Books()
    for number in range(7):
        posted(books, told(issue(f"SHP-{number}", 1, "8")))
    shown: list[str] = []
    after: str | None = None
    while True:
        page = books.page(DocumentFilter(), after, 3)
        shown += [document.posting_key for document in page.documents]
        after = page.following
        if after is None:
            break
    assert shown == [f"goods-issue/SHP-{number}" for number in range(7)]


def test_pages_show_what_is_asked_for() -> None:
    books = Books()
    posted(books, told(issue("SHP-1", 1, "8")))
    posted(books, told(invoice("SHP-1", 1, net="20", tax="0")))
    posted(books, undone(invoice("SHP-1", 1, net="20", tax="0")))

    def numbers(wanted: DocumentFilter) -> list[int]:
        return [int(one.number[-1]) for one in books.page(wanted, None, 10).documents]

    assert numbers(DocumentFilter(live=True)) == [1]
    assert numbers(DocumentFilter(live=False)) == [2, 3]
    assert numbers(DocumentFilter(command="invoice")) == [2, 3]
    assert numbers(DocumentFilter(action=Action.REVERSE)) == [3]
    assert numbers(DocumentFilter(posting_key="invoice/SHP-1")) == [2, 3]
    assert numbers(DocumentFilter(idempotency_key="invoice/SHP-1@1/reverse")) == [3]
    assert numbers(DocumentFilter(idempotency_key="unheard-of")) == []


def test_an_erased_erp_is_as_new() -> None:
    books = Books()
    books.apply(StandardCosts({"SKU-1": D("8.00")}))
    posted(books, told(issue("SHP-1", 6)))
    books.apply(PeriodClosing(DAY))
    books.apply(Erased())
    assert books == Books()
