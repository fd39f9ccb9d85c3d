"""One training run from a description, and the files it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import save_model
from ..freezer import Freezer
from ..seeds import mix
from ..settings import to_flat
from .config import RunConfig
from .examination import scores
from .files import Journal, RunFiles
from .interruption import interruptible
from .loop import fit
from .processes import Processes
from .records import Examine, Write, describe_machine, write_end, write_start
from .reporting import report_on
from .setup import Setup, make_optimizer
from .tensorboard import TensorBoard

__all__ = ["Outcome", "train"]

ECHO_SECONDS = 3.0
"""A launcher passes Ctrl-C on, and a terminal may have told all processes before."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its files, whether all epochs are trained, and whether they were so before."""

    files: RunFiles
    finished: bool
    before: bool = False


def train(
    config: RunConfig,
    *,
    resume: bool = False,
    listener: Callable[[dict[str, Any]], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> Outcome:
    """Train as described and leave model.safetensors, metrics.jsonl and report.html in `config.out`.

    Where a launcher has started several processes, all call it: each trains on its share, one writes.

    Args:
        resume: go on from the checkpoint there; a run that is finished is left as it is, and one that was killed before
            its first checkpoint begins again.
        listener: called with each record.
        on_step: as in `fit`.
        on_stop: called when Ctrl-C was heard, in its signal handler.

    Returns:
        How it ended; a run that is not finished was interrupted and left a checkpoint to resume from.

    Raises:
        RunBusyError: another process is training in the folder.
    """
    processes = Processes.of(config)
    curves: TensorBoard | None = None
    with processes.ranks.telling(), ExitStack() as held:

        def begin() -> tuple[str, bool, bool]:
            nonlocal curves
            files = RunFiles(config.folder(resume) if config.out is None else Path(config.out))
            curves = TensorBoard(files.curves) if config.tensorboard else None
            held.enter_context(files.held())
            if config.out is not None:
                config.folder(resume)  # refuses one that holds another run
            goes_on = resume and (files.checkpoint.exists() or not files.config.exists())
            return str(files.folder), resume and files.model.exists(), goes_on

        folder, before, goes_on = processes.ranks.lead("the run's files", begin)
        files = RunFiles(Path(folder))
        if before:
            return Outcome(files, finished=True, before=True)
        finished = _Run(config, files, processes, goes_on, curves, listener, on_step, on_stop).trained()
        processes.end()
    return Outcome(files, finished)


@dataclass(frozen=True)
class _Run:
    """A run in its folder; of several processes, one writes there.

    Attributes:
        goes_on: from the checkpoint there.
    """

    config: RunConfig
    files: RunFiles
    processes: Processes
    goes_on: bool
    curves: TensorBoard | None
    listener: Callable[[dict[str, Any]], None] | None
    on_step: Callable[[int, int], None] | None
    on_stop: Callable[[], None] | None

    def trained(self) -> bool:
        """Train, and write what is to be left; whether all epochs ran."""
        config, files, ranks = self.config, self.files, self.processes.ranks
        setup = Setup.of(self.processes.placed(config))
        optimizer = make_optimizer(config, setup.model)
        if not ranks.leads:
            torch.manual_seed(mix(config.rendering.seed, ranks.rank))  # not what another drops out
        plain, augmented = (setup.examination(how, ranks) for how in (setup.test_transform, setup.train_transform))
        keywords = {**setup.config.keywords, "cache_dir": config.storing.cache_dir or files.cache}
        with ExitStack() as opened:
            freezer = opened.enter_context(
                Freezer(
                    self.processes.wrapped(setup.model),
                    setup.train_set,
                    transform=setup.train_transform,
                    optimizer=optimizer,
                    verbose=False,
                    **keywords,
                )
            )
            write = opened.enter_context(self._writing(freezer))
            first: list[dict[str, Any]] = []
            write_start(first.append, freezer, _about(setup))

            def begin() -> None:
                """Nothing is written of a run that is refused its checkpoint."""
                freezer.listener = write
                for record in first:
                    write(record)

            began = time.perf_counter()
            with interruptible(self.on_stop, 0.0 if ranks.alone else ECHO_SECONDS) as stop:
                finished = fit(
                    freezer,
                    optimizer,
                    epochs=config.epochs,
                    evaluate=self._curve(setup, freezer, plain),
                    checkpoint=files.checkpoint,
                    resume=self.goes_on,
                    stop=stop,
                    ranks=ranks,
                    on_begin=begin,
                    on_step=self.on_step,
                )
            if finished:
                write_end(write, freezer, plain, augmented, began)
        if ranks.leads:
            report_on([files.folder])
            if finished:
                save_model(files.model, setup.model)  # last: a run that has it is finished
        return finished

    @contextmanager
    def _writing(self, freezer: Freezer) -> Iterator[Write]:
        """Where records go."""
        if not self.processes.ranks.leads:
            yield lambda record: None
            return
        if not self.goes_on:
            self.config.write(self.files.config)
        with ExitStack() as opened:
            if self.curves is not None:
                opened.callback(self.curves.close)

            def heard(record: dict[str, Any]) -> None:
                if self.curves is not None:
                    self.curves.write(record, freezer.history)
                if self.listener is not None:
                    self.listener(record)

            journal = Journal(self.files.metrics, goes_on=self.goes_on, listener=heard)
            opened.callback(journal.close)
            yield journal.write

    def _curve(self, setup: Setup, freezer: Freezer, plain: Examine) -> Examine:
        """What each epoch is evaluated on."""
        how, ranks = self.config.evaluation, self.processes.ranks
        if how == "images":
            return plain
        # What is stored of the test set lies with one of them.
        test = freezer.evaluation(setup.data.test, setup.test_transform, codec=how) if ranks.leads else ()
        return lambda model: ranks.lead("an evaluation", lambda: scores(model, freezer, test))


def _about(setup: Setup) -> dict[str, Any]:
    """What a run's records say of it first."""
    return {
        "model": setup.config.model,
        "data": setup.data.name,
        "samples": len(setup.train_set),  # type: ignore[arg-type]
        "mode": setup.config.storing.mode,
        **describe_machine(),
        "config": to_flat(setup.config),
    }
