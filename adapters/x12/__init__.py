"""ASC X12 trading partners: orders, warehouse messages and ship notices in, 997 acknowledgements out."""
