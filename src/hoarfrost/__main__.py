"""`python -m hoarfrost` is the command."""

from .cli import app

app()
