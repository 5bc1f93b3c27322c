"""Tryton 8.2 as the ERP, over its REST interface. It is GPL: a process of its own, never imported here."""
