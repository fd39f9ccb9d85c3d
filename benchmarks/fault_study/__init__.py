"""Faults done on purpose, one file a kind: `faults.py` runs them."""
