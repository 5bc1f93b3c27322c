"""Twins and ledger compared with what others say they hold. Pure.

`difference` what is found and what would mend it · `documents`, `balances`, `shelves`, `orders` one
comparison each · `causes` why it is likely so · `snapshot` what an OMS or a WMS says · `report` the outcome.
"""
