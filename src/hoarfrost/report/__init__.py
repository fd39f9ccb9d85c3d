"""From a run's records to one page of HTML, and numbers as people read them."""

from .format import format_bytes, format_count, format_percent, format_seconds
from .page import Chapter, Table, write_report
from .records import Run, read_records
from .sensitivity_page import sensitivity_tables, write_sensitivity

__all__ = [
    "Chapter",
    "Run",
    "Table",
    "format_bytes",
    "format_count",
    "format_percent",
    "format_seconds",
    "read_records",
    "sensitivity_tables",
    "write_report",
    "write_sensitivity",
]
