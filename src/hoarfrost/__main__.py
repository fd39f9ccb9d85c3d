"""`python -m hoarfrost` is the command."""

from .cli import app

app(prog_name="hoarfrost")
