"""What a run shows in the terminal, from its records."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..report import format_bytes, format_percent, format_seconds

__all__ = ["RunDisplay"]

COLUMNS = (
    ("epoch", 7),
    ("loss", 6),
    ("train", 7),
    ("test", 7),
    ("images/s", 8),
    ("frozen", 11),
    ("from", 9),
    ("stored", 7),
    ("saved", 9),
)
"""Heading and width of what an epoch's line shows; the widths and one blank between them fill 80 columns."""

WIDE = 100
"""From this width on columns are two blanks apart."""


class RunDisplay:
    """One line an epoch, one paragraph a freeze, and a bar for the epoch that runs."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._epochs: int | None = None
        self._epoch_done = 0
        self._headed = False
        self._stopping = False
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._warned = warnings.showwarning

    def __enter__(self) -> RunDisplay:
        self._warned = warnings.showwarning
        warnings.showwarning = self._warn  # type: ignore[assignment]
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.stop()
        warnings.showwarning = self._warned

    def step(self, done: int, of: int) -> None:
        """Move the bar of the current epoch."""
        if not self._stopping:
            doing = f"epoch {self._epoch_done + 1}" if done < of else f"epoch {self._epoch_done + 1}: test"
            self._bar.update(self._task, description=doing, completed=done, total=of, visible=True)

    def stopping(self) -> None:
        """Say that Ctrl-C was heard; safe in a signal handler, since the bar is drawn by a thread of its own."""
        self._stopping = True
        said = "stopping after this step (Ctrl-C again: at once)"
        self._bar.update(self._task, description=said, total=None, visible=True)

    def show(self, record: dict[str, Any]) -> None:
        """Print one record."""
        shown = {
            "start": self._start,
            "resume": self._resume,
            "epoch": self._epoch,
            "freeze": self._freeze,
            "decision": self._decision,
            "midway": self._midway,
            "thaw": self._thaw,
            "changed": self._changed,
            "heal": self._heal,
            "end": self._end,
        }
        if record["event"] in shown:
            shown[record["event"]](record)

    def _start(self, record: dict[str, Any]) -> None:
        self._epochs, self._epoch_done, self._headed = record["epochs"], 0, False
        cuts = len(record["cuts"])
        self._print(
            f"[bold]{escape(record['model'])}[/] on {escape(record['data'])}: {record['samples']:,} training images, "
            f"{record['epochs']} epochs, {cuts} cut{'s' * (cuts != 1)}, policy {escape(record['policy'])}"
        )
        for line in record.get("transform", ()):
            # The rest is the same for every rendition, and of no interest.
            if ": deterministic" not in line:
                self._print(f"[dim]{escape(line)}[/]", 2)
        out = record.get("config", {}).get("out")
        if out:
            self._print(f"[dim]{escape(record['hardware'])}; files in {escape(out)}[/]", 2)
        self._waiting()

    def _resume(self, record: dict[str, Any]) -> None:
        self._epoch_done = record["epoch"]
        within = f", behind step {record['step']}" if record["step"] else ""
        self._print(f"going on with epoch {record['epoch'] + 1}{within}")
        self._waiting()

    def _epoch(self, record: dict[str, Any]) -> None:
        if not self._headed:
            self._print(f"[dim]{self._line(dict(COLUMNS).keys())}[/]")
            self._headed = True
        saved, speed = record.get("saved_seconds"), record.get("images_per_second")
        number = record["epoch"] + 1
        self._print(
            self._line(
                [
                    f"{number}/{self._epochs}" if self._epochs else str(number),
                    f"{record['loss']:.3f}",
                    format_percent(record["accuracy"]),
                    format_percent(record["test_accuracy"]) if "test_accuracy" in record else "",
                    f"{speed:,.0f}" if speed else "",
                    record["cut"] or "–",
                    record["source"],
                    format_bytes(record["cache_bytes"]) if record["cache_bytes"] else "–",
                    _brief(saved) if record["depth"] and saved is not None else "–",
                ]
            )
        )
        self._epoch_done = number
        if number != self._epochs:
            self._waiting()
        else:
            self._bar.update(self._task, visible=False)

    def _freeze(self, record: dict[str, Any]) -> None:
        self._print(
            f"[bold cyan]frozen up to {escape(record['cut'])}[/] {_before(record['epoch'])}: "
            f"{escape(record['decision'])}"
        )
        self._waiting()
        if record["choice"] != "cache":
            return
        rung = next((rung for rung in record["rungs"] if rung["chosen"]), None)
        codec = f" at {rung['codec']} (harm {rung['kl']:.1e})" if rung else ""
        ratio = record["dense_bytes"] / max(1, record["cache_bytes"])
        channels = record["stored_channels"]
        further = "" if record["views"] < 2 else ", all channels" if channels is None else f", {len(channels)} channels"
        built = f"built in {format_seconds(record['build_seconds'])}"
        if record.get("record") == "shown":
            built = "the rest is recorded as epochs show it"
        self._print(
            f"{record['views']} view{'s' * (record['views'] > 1)}{further}{codec}: "
            f"{format_bytes(record['cache_bytes'])}, {ratio:.1f}x below fp32, {built}",
            2,
        )
        why = record.get("further", {}).get("why", "") if record["views"] > 1 else ""
        if why:
            self._print(escape(why), 2)

    def _decision(self, record: dict[str, Any]) -> None:
        self._print(f"[cyan]{_place(record)}[/]: {escape(record['why'])}")

    def _midway(self, record: dict[str, Any]) -> None:
        self._print(
            f"[bold cyan]frozen up to {escape(record['cut'])}[/] {_place(record)}: recomputed until the epoch ends"
        )

    def _thaw(self, record: dict[str, Any]) -> None:
        again = "" if record["depth"] == 0 else ", to freeze less"
        self._print(f"[bold cyan]thawed[/] {_place(record)}{again}: {escape(record['policy'])}")

    def _changed(self, record: dict[str, Any]) -> None:
        names = record["names"]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self._print(
            f"[yellow]{escape(names[0])}{more}[/] changed {_place(record)}, though frozen: its features are built anew"
        )

    def _heal(self, record: dict[str, Any]) -> None:
        self._print(f"[yellow]healed chunk {record['chunk']}, view {record['view']}[/]: {escape(record['reason'])}")

    def _end(self, record: dict[str, Any]) -> None:
        self._bar.update(self._task, visible=False)
        augmented = record.get("augmented_accuracy")
        also = "" if augmented is None else f", {format_percent(augmented)} on augmented images"
        self._print(
            f"[bold]test accuracy {format_percent(record['test_accuracy'])}[/]{also}, "
            f"after {format_seconds(record['seconds'])} of training"
        )

    def _waiting(self) -> None:
        """Between two epochs: features may be calibrated and stored, which takes as long as it takes."""
        if not self._stopping:
            doing = f"preparing epoch {self._epoch_done + 1}"
            self._bar.update(self._task, description=doing, completed=0, total=None, visible=True)

    def _line(self, cells: Any) -> str:
        gap = "  " if self.console.width >= WIDE else " "
        # Wider than 80 columns, the cut's name gets the room.
        spare = self.console.width - sum(width for _, width in COLUMNS) - len(gap) * (len(COLUMNS) - 1)
        padded = []
        for (name, width), cell in zip(COLUMNS, cells, strict=True):
            if name == "frozen":
                room = width + max(0, min(spare, 20))
                padded.append((cell if len(cell) <= room else "…" + cell[1 - room :]).ljust(room))
            else:
                padded.append(cell.ljust(width) if name == "from" else cell.rjust(width))
        return escape(gap.join(padded).rstrip())

    def _warn(self, message: Warning | str, category: type[Warning], *place: Any) -> None:
        text = str(message)
        if issubclass(category, UserWarning) and text.startswith("hoarfrost"):
            self._print(f"[yellow]{escape(text)}[/]")
        else:
            self._warned(message, category, *place)

    def _print(self, text: str, indent: int = 0) -> None:
        self.console.print(Padding(text, (0, 0, 0, indent), expand=False) if indent else text, highlight=False)


def _brief(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if abs(seconds) >= 3600 else format_seconds(seconds)


def _place(record: dict[str, Any]) -> str:
    step, epoch = record["step"], record["epoch"]
    return f"behind step {step} of epoch {epoch + 1}" if step else _before(epoch)


def _before(epoch: int) -> str:
    """When an epoch begins, by a number that is the same for who counts epochs from 0, as a schedule does, and for who
    counts them from 1, as the table does."""
    return f"after {epoch} epoch{'s' * (epoch > 1)}" if epoch else "before the first epoch"
