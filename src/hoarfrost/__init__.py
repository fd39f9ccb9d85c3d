"""Hoarfrost: train on stored features instead of frozen layers."""
