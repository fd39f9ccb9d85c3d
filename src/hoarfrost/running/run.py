"""One training run from a description, and the files it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints import save_model
from ..freezer import Freezer
from ..settings import to_flat
from .config import RunConfig
from .examination import scores
from .files import Journal, RunFiles
from .interruption import interruptible
from .loop import fit
from .records import Examine, describe_machine, write_end, write_start
from .reporting import report_on
from .setup import Setup, make_optimizer

__all__ = ["Outcome", "train"]


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
    files = RunFiles(config.folder(resume) if config.out is None else Path(config.out))
    with files.held():
        if config.out is not None:
            config.folder(resume)  # refuses one that holds another run
        if resume and files.model.exists():
            return Outcome(files, finished=True, before=True)
        resume = resume and (files.checkpoint.exists() or not files.config.exists())
        return _trained(config, files, resume, listener, on_step, on_stop)


def _trained(
    config: RunConfig,
    files: RunFiles,
    resume: bool,
    listener: Callable[[dict[str, Any]], None] | None,
    on_step: Callable[[int, int], None] | None,
    on_stop: Callable[[], None] | None,
) -> Outcome:
    setup = Setup.of(config)
    optimizer = make_optimizer(config, setup.model)
    plain, augmented = (setup.examination(how) for how in (setup.test_transform, setup.train_transform))
    keywords = {**config.keywords, "cache_dir": config.storing.cache_dir or files.cache}
    with Freezer(
        setup.model,
        setup.train_set,
        transform=setup.train_transform,
        optimizer=optimizer,
        verbose=False,
        **keywords,
    ) as freezer:
        if not resume:
            config.write(files.config)
        curve: Examine = plain
        if config.evaluation != "images":
            test = freezer.evaluation(setup.data.test, setup.test_transform, codec=config.evaluation)
            curve = lambda model: scores(model, freezer, test)  # noqa: E731
        with closing(Journal(files.metrics, goes_on=resume, listener=listener)) as journal:
            write_start(journal, freezer, _about(setup))
            began = time.perf_counter()
            with interruptible(on_stop) as stop:
                finished = fit(
                    freezer,
                    optimizer,
                    epochs=config.epochs,
                    evaluate=curve,
                    checkpoint=files.checkpoint,
                    resume=resume,
                    stop=stop,
                    on_step=on_step,
                )
            if finished:
                write_end(journal, freezer, plain, augmented, began)
        report_on([files.folder])
        if finished:
            save_model(files.model, setup.model)  # last: a run that has it is finished
        return Outcome(files, finished)


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
