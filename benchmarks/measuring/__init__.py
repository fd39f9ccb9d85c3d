"""Seconds and their ratios, and the record of a script."""
