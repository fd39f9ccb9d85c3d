"""One model in a process of its own, within limits of time and memory.

Processes are forked from a server that has imported torch and the models' packages once: an import takes longer than
most models do.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import warnings
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import torch

from .catalog import GROUPS, find_entry
from .entry import Entry
from .examine import Plan, Record, TooLargeError, examine

__all__ = ["examined", "server"]

GRACE_SECONDS = 60.0  # for a process to end by itself after its time is over


def server(groups: Sequence[str]) -> ForkServerContext:
    """What starts the processes for the models of these groups."""
    home = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    context = multiprocessing.get_context("forkserver")
    modules = {GROUPS[group][0] for group in groups}
    context.set_forkserver_preload([f"{__package__}.{name}" for name in ("worker", *sorted(modules))])
    return context


def examined(context: ForkServerContext, entry: Entry, plan: Plan, gigabytes: float) -> Record:
    """The record of one model; its `status` is "no end" where the process did not come to one."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "record.json"
        process = context.Process(target=work, args=(entry.group, entry.name, plan, gigabytes, to))
        process.start()
        process.join(plan.seconds + GRACE_SECONDS)
        ended = None
        if process.is_alive():
            process.kill()
            process.join()
            ended = f"stopped after {plan.seconds + GRACE_SECONDS:.0f} s"
        elif process.exitcode != 0:
            ended = f"the process ended with {process.exitcode}"
        record: Record = {"group": entry.group, "model": entry.name, "status": "no end", "failures": []}
        if to.exists():
            record = json.loads(to.read_text())
    return record if ended is None else {**record, "status": "no end", "reason": ended}


def work(group: str, name: str, plan: Plan, gigabytes: float, to: Path) -> None:
    """Examine one model, in this process, and leave its record in a file."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    last: Record = {"group": group, "model": name, "failures": []}

    def note(record: Record) -> None:
        last.update(record)
        half = to.with_suffix(".half")
        half.write_text(json.dumps(record))
        half.replace(to)

    entry = find_entry(group, name)
    limit_memory(gigabytes)
    try:
        examine(entry, plan, note)
    except TooLargeError:
        note({**last, "status": "too large", "reason": f"more than {gigabytes:g} GiB above the imported libraries"})
    except Exception as error:
        note({**last, "status": "no end", "reason": f"{type(error).__name__}: {error}"[:300]})


def limit_memory(gigabytes: float) -> None:
    """No more address space than so much above what the imported libraries have taken."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
