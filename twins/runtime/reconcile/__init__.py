"""Comparing while everything goes on: `spool` keeps an ERP's documents, `look` is one look at documents and
`believed` one at twins, `run` takes two of each and keeps what both saw, `correct` applies what was proposed,
`schedule` does it by itself.
"""
