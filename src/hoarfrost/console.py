"""What a run shows in the terminal, from its records."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .report import Table, format_bytes, format_percent, format_seconds

__all__ = ["RunDisplay", "print_table"]


class RunDisplay:
    """One line an epoch, one paragraph a freeze, and a bar for the epoch that runs."""

    def __init__(self, console: Console | None = None, epochs: int | None = None) -> None:
        self.console = console or Console()
        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("epoch", total=None, visible=False)

    def __enter__(self) -> RunDisplay:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()

    def step(self, done: int, of: int) -> None:
        """Move the bar of the current epoch."""
        self._bar.update(self._task, completed=done, total=of, visible=done < of)

    def show(self, record: dict[str, Any]) -> None:
        """Print one record."""
        line = {"start": self._start, "epoch": self._epoch, "freeze": self._freeze, "heal": self._heal}
        if record["event"] in line:
            line[record["event"]](record)

    def _start(self, record: dict[str, Any]) -> None:
        self._epochs = record["epochs"]
        self._bar.update(self._task, description="epoch 1")
        self.console.print(
            f"[bold]{record['model']}[/] on {record['data']}: {record['samples']:,} training images, "
            f"{record['epochs']} epochs, {len(record['cuts'])} cuts, policy {record['policy']}",
            highlight=False,
        )
        for line in record["transform"]:
            self.console.print(f"  [dim]{line}[/]", highlight=False)

    def _epoch(self, record: dict[str, Any]) -> None:
        saved = record.get("saved_seconds")
        parts = [
            f"epoch {record['epoch'] + 1:>3}/{self._epochs}" if self._epochs else f"epoch {record['epoch'] + 1:>3}",
            f"loss {record['loss']:.3f}",
            f"accuracy {format_percent(record['accuracy'])}",
            f"test {format_percent(record['test_accuracy'])}" if "test_accuracy" in record else "",
            f"{record['images_per_second']:,.0f} images/s" if record.get("images_per_second") else "",
            f"frozen to {record['cut']}, {record['source']}" if record["depth"] else "nothing frozen",
            format_bytes(record["cache_bytes"]) + " stored" if record["cache_bytes"] else "",
            f"saved {format_seconds(saved)}" if record["depth"] and saved and saved > 0 else "",
        ]
        self.console.print("  ".join(part for part in parts if part), highlight=False)
        self._bar.update(self._task, description=f"epoch {record['epoch'] + 2}", visible=False)

    def _freeze(self, record: dict[str, Any]) -> None:
        head = f"[bold cyan]frozen up to {record['cut']}[/] before epoch {record['epoch'] + 1}"
        self.console.print(f"{head}: {record['decision']}", highlight=False)
        if record["choice"] != "cache":
            return
        rung = next(rung for rung in record["rungs"] if rung["chosen"])
        ratio = record["dense_bytes"] / max(1, record["cache_bytes"])
        channels = record["stored_channels"]
        further = "" if record["views"] < 2 else ", all channels" if channels is None else f", {len(channels)} channels"
        self.console.print(
            f"  {record['views']} view{'s' * (record['views'] > 1)}{further} at {rung['codec']} "
            f"(KL {rung['kl']:.1e}): {format_bytes(record['cache_bytes'])}, {ratio:.1f}x below fp32, "
            f"built in {format_seconds(record['build_seconds'])}",
            highlight=False,
        )

    def _heal(self, record: dict[str, Any]) -> None:
        self.console.print(
            f"[yellow]healed chunk {record['chunk']}, view {record['view']}[/]: {record['reason']}", highlight=False
        )


def print_table(console: Console, table: Table) -> None:
    """A report's table in the terminal."""
    from rich.table import Table as RichTable

    shown = RichTable(title=table.title, title_justify="left", caption=table.note or None, caption_justify="left")
    for name, numeric in zip(table.header, table.numeric, strict=True):
        shown.add_column(name, justify="right" if numeric else "left")
    for number, row in enumerate(table.rows):
        shown.add_row(*row, style="bold" if number == table.emphasis else "")
    console.print(shown)
