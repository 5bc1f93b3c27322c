"""One of each posting, of the company that make erp founds."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from canonical.identity import posting_key
from canonical.postings import (
    AccrueFreight,
    GoodsLine,
    InvoiceLine,
    MatchCarrierBill,
    PostCreditNote,
    PostGoodsIssue,
    Posting,
    PostInvoice,
    PostPayment,
    PostRefund,
    PostReturnReceipt,
    PostStockAdjustment,
    PostTransfer,
    ReserveStock,
    ReturnedGoods,
)

DAY = date(2026, 3, 2)
COMMON: dict[str, Any] = {"event_date": DAY, "company": "main", "currency": "USD"}
D = Decimal


def goods_issue(shipment: str = "SHP-1", quantity: int = 6, *, cost: str | None = "48.00") -> PostGoodsIssue:
    line = GoodsLine("SO-1/1", "SKU-1", "DC-01", D(quantity), None if cost is None else D(cost))
    return PostGoodsIssue(
        key=posting_key("goods-issue", shipment), shipment_id=shipment, lines=(line,), **COMMON
    )


def invoice(
    shipment: str = "SHP-1", quantity: int = 6, *, freight: str = "7.50", cost: str | None = "48.00"
) -> PostInvoice:
    line = InvoiceLine(
        "1", "SKU-1", D(quantity), D(20 * quantity), D("1.65") * quantity, None if cost is None else D(cost)
    )
    return PostInvoice(
        key=posting_key("invoice", shipment, "SO-1"),
        order_id="SO-1",
        shipment_id=shipment,
        customer_id="C-1",
        lines=(line,),
        freight=D(freight),
        freight_tax=D("0.62"),
        goods_issue_digest="digest",
        **COMMON,
    )


def return_receipt(**goods: tuple[int, str]) -> PostReturnReceipt:
    """*goods*: disposition → quantity and cost."""
    parts = tuple(
        ReturnedGoods(location="DC-01", disposition=disposition, quantity=D(quantity), cost=D(cost))
        for disposition, (quantity, cost) in goods.items()
    )
    return PostReturnReceipt(
        key=posting_key("return-receipt", "RMA-1", "1", "SO-1"),
        order_id="SO-1",
        return_id="RMA-1",
        line_id="1",
        sku="SKU-1",
        goods=parts,
        **COMMON,
    )


def credit_note(*, cost: str = "16.00") -> PostCreditNote:
    return PostCreditNote(
        key=posting_key("credit-note", "RMA-1", "1", "SO-1"),
        order_id="SO-1",
        return_id="RMA-1",
        line_id="1",
        customer_id="C-1",
        sku="SKU-1",
        quantity=D(2),
        net=D(40),
        tax=D("3.30"),
        cost=D(cost),
        **COMMON,
    )


def adjustment(delta: int, cost: str, status: str = "sellable") -> PostStockAdjustment:
    return PostStockAdjustment(
        key=posting_key("stock-adjustment", f"ADJ{delta}{status}", "SKU-1@DC-01"),
        sku="SKU-1",
        location="DC-01",
        status=status,
        delta=D(delta),
        cost=D(cost),
        **COMMON,
    )


def transfer(leg: Any, location: str) -> PostTransfer:
    return PostTransfer(
        key=posting_key("transfer", "T-1", f"SKU-1@{location}", leg),
        transfer_id="T-1",
        leg=leg,
        sku="SKU-1",
        location=location,
        quantity=D(5),
        cost=D("40.00"),
        **COMMON,
    )


def payment() -> PostPayment:
    return PostPayment(
        key=posting_key("payment", "P-1", "SO-1"),
        order_id="SO-1",
        payment_id="P-1",
        amount=D("129.90"),
        **COMMON,
    )


def every() -> list[Posting]:
    """In an order that an ERP can take."""
    return [
        ReserveStock(
            key=posting_key("reserve", "SO-1", "1", "DC-01"),
            order_id="SO-1",
            line_id="1",
            sku="SKU-1",
            location="DC-01",
            quantity=D(6),
            **COMMON,
        ),
        goods_issue(),
        invoice(),
        AccrueFreight(
            key=posting_key("freight-accrual", "SHP-1"),
            shipment_id="SHP-1",
            carrier="ups",
            amount=D("9.20"),
            **COMMON,
        ),
        MatchCarrierBill(
            key=posting_key("carrier-bill", "B-1", "SHP-1"),
            shipment_id="SHP-1",
            bill_id="B-1",
            carrier="ups",
            amount=D("9.55"),
            accrued=D("9.20"),
            **COMMON,
        ),
        return_receipt(sellable=(1, "8.00"), damaged=(1, "8.00"), scrap=(1, "8.00")),
        credit_note(),
        adjustment(3, "24.00"),
        adjustment(-2, "-16.00"),
        adjustment(-1, "-8.00", "quarantine"),
        transfer("out", "DC-01"),
        transfer("in", "DC-02"),
        payment(),
        PostRefund(
            key=posting_key("refund", "R-1", "SO-1"),
            order_id="SO-1",
            refund_id="R-1",
            amount=D("43.30"),
            **COMMON,
        ),
    ]
