"""Hostile files: what is done to them, and who reads them."""
