"""Trainings that are killed and resumed, compared with one that was left alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .operations import watch
from .trainings import SUBJECTS, Subject, live, make_pictures

__all__ = ["study"]

LIVES = 4
"""A run that has not ended in so many is given up."""


@dataclass(frozen=True)
class _Life:
    """How one process ended: what it left, or None where it was killed; and what it complained, where it failed."""

    left: dict[str, Any] | None
    failed: str = ""


def study(count: int, seed: int, only: str, jobs: int) -> dict[str, Any]:
    """So many kills, spread over the subjects; see `benchmarks/faults.py`."""
    torch.set_num_threads(1)
    subjects = [subject for subject in SUBJECTS if any(part in subject.name for part in only.split("|"))]
    shares = [count // len(subjects) + (number < count % len(subjects)) for number in range(len(subjects))]
    trials = []
    with tempfile.TemporaryDirectory() as scratch:
        pictures = Path(scratch) / "pictures"
        make_pictures(pictures)
        workers = []
        for job in range(jobs):
            place = Path(scratch) / str(job)
            place.mkdir()
            worker = os.fork()
            if worker == 0:
                mine = [*zip(subjects, shares, strict=True)][job::jobs]
                _end(_tried(mine, seed, place, pictures), place / "trials.json")
            workers.append(worker)
        for job, worker in enumerate(workers):
            os.waitpid(worker, 0)
            left = json.loads((Path(scratch) / str(job) / "trials.json").read_text())
            if "failed" in left:
                raise RuntimeError(left["failed"])
            trials += left["trials"]
    rows = [_row(subject.name, [trial for trial in trials if trial["subject"] == subject.name]) for subject in subjects]
    rows = [row for row in rows if row["kills"]]
    rows.append({"training": "all", **{name: sum(row[name] for row in rows) for name in list(rows[0])[1:]}})
    return {"seed": seed, "torch": torch.__version__, "rows": rows, "trials": trials}


def _tried(subjects: Sequence[tuple[Subject, int]], seed: int, scratch: Path, pictures: Path) -> dict[str, Any]:
    """All trials of some subjects; or what went wrong with the study itself."""
    trials: list[dict[str, Any]] = []
    try:
        for subject, share in subjects:
            if share:
                trials += _broken(subject, share, random.Random(f"{seed} {subject.name}"), scratch, pictures)
    except BaseException:
        return {"failed": traceback.format_exc()}
    return {"trials": trials}


def _row(name: str, trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    ends = Counter(trial["end"] for trial in trials)
    return {
        "training": name,
        "kills": sum(trial["kills"] for trial in trials),
        "runs": len(trials),
        "the same": ends["same"],
        "other weights": ends["other weights"],
        "other decisions": ends["other decisions"],
        "could not go on": ends["failed"],
    }


def _broken(subject: Subject, count: int, drawn: random.Random, scratch: Path, pictures: Path) -> list[dict[str, Any]]:
    calm = scratch / "calm"
    began = time.perf_counter()
    calmly = _life(subject, calm, pictures)
    wanted = calmly.left
    seconds = time.perf_counter() - began
    shutil.rmtree(calm)
    if wanted is None:
        raise RuntimeError(f"{subject.name}: the undisturbed run did not end: {calmly.failed}")
    operations, trials = int(wanted["operations"]), []
    while sum(trial["kills"] for trial in trials) < count:
        folder = scratch / "run"
        at = drawn.randint(1, operations) if drawn.random() < 0.75 else None
        trials.append(_trial(subject, folder, pictures, drawn, at, seconds, wanted))
        shutil.rmtree(folder, ignore_errors=True)
        told = trials[-1]
        print(f"{subject.name}: {told['places']} -> {told['end']} {told['why'][-300:]}", flush=True)
    return trials


def _trial(
    subject: Subject,
    folder: Path,
    pictures: Path,
    drawn: random.Random,
    at: int | None,
    seconds: float,
    wanted: dict[str, Any],
) -> dict[str, Any]:
    """One run, killed at an operation (or at a random moment), resumed, now and then killed again."""
    places: list[Any] = []
    decided: dict[str, Any] | None = None
    for life in range(LIVES):
        last = life == LIVES - 1 or (life and drawn.random() < 0.7)
        after = None if last or at is not None else round(drawn.uniform(0, seconds), 3)
        lived = _life(subject, folder, pictures, at=None if last else at, after=after)
        if lived.failed:
            return _told(subject, places, "failed", lived.failed)
        if lived.left is not None:
            break
        places.append(after if at is None else at)
        decided = _decided(folder) or decided
        if at is not None:
            at = drawn.randint(1, int(wanted["operations"]))
    else:
        return _told(subject, places, "failed", "it did not end")
    found = lived.left
    if subject.timed:
        why = "" if decided is None else _unlike(decided, found["records"])
    else:
        mine, theirs = (_decisions(each["records"]) for each in (found, wanted))
        why = "" if mine == theirs else f"{theirs} became {mine}"
    if why:
        return _told(subject, places, "other decisions", why)
    same = found["weights"] == wanted["weights"] or subject.name == "policy budget"
    return _told(subject, places, "same" if same else "other weights", "")


def _told(subject: Subject, places: Sequence[Any], end: str, why: str) -> dict[str, Any]:
    return {"subject": subject.name, "places": list(places), "kills": len(places), "end": end, "why": why}


def _decisions(records: Sequence[dict[str, Any]]) -> list[Any]:
    """What was frozen when, and how it was stored; of what a resumed run says again, the last."""
    freezes = {r["epoch"]: r for r in records if r["event"] == "freeze"}
    depths = {r["epoch"]: (r["depth"], r["loss"]) for r in records if r["event"] == "epoch"}
    return [sorted(depths.items()), [(epoch, *_stored(freezes[epoch])) for epoch in sorted(freezes)]]


def _stored(freeze: dict[str, Any]) -> tuple[Any, ...]:
    chosen = [rung["codec"] for rung in freeze["rungs"] if rung["chosen"]]
    return freeze["cut"], freeze["choice"], freeze["views"], chosen, freeze["stored_channels"], freeze["built_from"]


def _decided(folder: Path) -> dict[str, Any] | None:
    """What the last checkpoint holds of the epoch that comes: its depth, and how its features are had."""
    from hoarfrost.checkpoints import load_tree

    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt")["freezer"]
    elif (folder / "checkpoint.safetensors").exists():
        state = load_tree(folder / "checkpoint.safetensors")["freezer"]
    else:
        return None
    chosen = state["decided"]
    return {"epoch": state["epoch"], "depth": state["depth"], "choice": None if chosen is None else chosen["choice"]}


def _unlike(decided: dict[str, Any], records: Sequence[dict[str, Any]]) -> str:
    """What the epoch that a checkpoint stood before was in the end, where that is not what it had decided."""
    for record in reversed(records):
        if record["event"] == "epoch" and record["epoch"] == decided["epoch"]:
            source = {None: "images", "cache": "cache", "recompute": "recompute"}[decided["choice"]]
            found = record["depth"], record["source"]
            return "" if found == (decided["depth"], source) else f"{decided} became {found}"
    return ""


def _life(
    subject: Subject, folder: Path, pictures: Path, *, at: int | None = None, after: float | None = None
) -> _Life:
    """One process: killed in front of an operation, or after so many seconds, or left alone."""
    folder.mkdir(exist_ok=True)
    outcome = folder.parent / "outcome.json"
    outcome.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _end(_lived(subject, folder, pictures, at), outcome)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return _Life(None)
    left = json.loads(outcome.read_text())
    return _Life(None, left["failed"]) if "failed" in left else _Life(left)


def _lived(subject: Subject, folder: Path, pictures: Path, at: int | None) -> dict[str, Any]:
    try:
        counter = watch(folder, at)
        left = live(subject, folder, pictures)
        digest = hashlib.blake2b(bytes.fromhex(left["weights"])).hexdigest()
        return {**left, "weights": digest, "operations": counter.count}
    except BaseException:
        return {"failed": traceback.format_exc()}


def _end(left: dict[str, Any], outcome: Path) -> None:
    outcome.write_text(json.dumps(left))
    os._exit(0)
