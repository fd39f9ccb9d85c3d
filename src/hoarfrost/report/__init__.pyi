from .channel_tables import sensitivity_tables
from .format import format_bytes, format_count, format_percent, format_seconds
from .page import Chapter, write_report
from .printing import print_table
from .records import Run, read_records
from .scalars import scalars_of
from .sensitivity_page import write_sensitivity
from .table import Table

__all__ = [
    "Chapter",
    "Run",
    "Table",
    "format_bytes",
    "format_count",
    "format_percent",
    "format_seconds",
    "print_table",
    "read_records",
    "scalars_of",
    "sensitivity_tables",
    "write_report",
    "write_sensitivity",
]
