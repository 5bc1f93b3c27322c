"""A double-entry ERP in a process of its own, behind HTTP, and the connector to it.

`models` what travels and what is kept · `valuation` and `books` the ERP itself, pure · `faults` how it
misbehaves · `journal` how it survives a restart · `server` and `__main__` the process · `connector` and
`process` twinsync's side.
"""
