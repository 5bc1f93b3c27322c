"""What an OMS or a WMS says it holds, as a CSV or JSON file.

A file is taken whole or refused whole, by the line and field at fault: half a snapshot would make the other
half look missing.
"""
