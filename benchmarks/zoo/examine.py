"""One model through everything: found, divided at its cuts and compared with itself, and frozen there."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hoarfrost.cuts import Cut, divide, find_cuts, survey
from hoarfrost.cuts.finding.find import why_not
from hoarfrost.cuts.finding.rules import judge

from .counting import ENOUGH, SEVERAL
from .entry import Entry, Example
from .freeze import SAMPLES, refusal
from .law import Run, chance, difference, divided, is_dispatcher, seed, state, values, whole

__all__ = ["Plan", "Record", "TooLargeError", "examine"]

ROWS = 4
OTHER_ROWS = 5
REPEATS = 2
SPREAD = 10
OTHER_KERNELS = "torch chooses other kernels where the prefix records no gradients"
# Reasons that say that more than one tensor must cross there, or that there is nothing to freeze or to train.
STRUCTURAL = ("besides what it gives", "no parameter is read", "nothing reads", "it hands on", "it gives no tensor")

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much of a model is tried.

    Attributes:
        cuts: how many, evenly spread; None for all recommended ones and ten others.
        every: all of them.
        seconds: after so many no further cut is begun, nor frozen.
    """

    cuts: int | None = None
    every: bool = False
    seconds: float = math.inf

    def chosen(self, found: Sequence[Cut]) -> list[Cut]:
        if self.every:
            return list(found)
        if self.cuts is not None:
            return _spread(found, self.cuts)
        others = _spread([cut for cut in found if not cut.recommended], SPREAD)
        return [cut for cut in found if cut.recommended or cut in others]


def _spread(found: Sequence[Cut], count: int) -> list[Cut]:
    if len(found) <= count:
        return list(found)
    return [found[round(n * (len(found) - 1) / max(count - 1, 1))] for n in range(count)]


def examine(entry: Entry, plan: Plan, note: Callable[[Record], None]) -> None:
    """Build the model, find its cuts, try the law and freeze at them; `note` gets the record after each step.

    The record's `status` is "not built", "own forward fails" (the model, before anything was done to it), "not
    traced" (no cuts were looked for), or "done"; `failures` lists what broke at which cut.

    Raises:
        TooLargeError: memory ran out.
    """
    start = time.monotonic()
    record: Record = {"group": entry.group, "model": entry.name, "status": "done", "failures": []}
    seed()
    try:
        model, samples = entry.build()
        batches = [samples(ROWS), samples(OTHER_ROWS)]
        model.train()
        record["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    except Exception as error:
        return note({**record, "status": "not built", "reason": _told(error)})
    try:
        trials = [Trial.of(model, batch, training) for batch in batches for training in (False, True)]
    except Exception as error:
        return note({**record, "status": "own forward fails", "reason": _told(error)})
    subject = Subject(model, trials)
    try:
        seconds = []
        for _ in range(REPEATS):
            before = time.perf_counter()
            cuts = find_cuts(model, batches[0])
            seconds.append(time.perf_counter() - before)
    except Exception as error:
        return note({**record, "status": "not traced", "reason": _told(error)})
    record |= {
        "find_seconds": round(statistics.median(seconds), 3),
        "cuts": len(cuts),
        "recommended": sum(cut.recommended for cut in cuts),
    }
    moved = subject.moved()
    if moved is not None:
        record["failures"].append({"cut": "", "check": "find", "reason": moved})
        subject = Subject(model, trials)
    offered = {"tested": plan.chosen(cuts)}
    if len(cuts) < ENOUGH:
        record["few"] = _reasons(model, batches[0])
        more = find_cuts(model, batches[0], max_tensors=SEVERAL)
        record["cuts_of_several"] = len(more)
        known = {cut.label for cut in cuts}
        offered["tested_of_several"] = plan.chosen([cut for cut in more if cut.label not in known])
    for kind, chosen in offered.items():
        record |= {kind: 0, f"{kind}_exact_in_eval": 0, f"{kind}_exact_in_train": 0}
        for number, cut in enumerate(chosen):
            if time.monotonic() - start > plan.seconds:
                record[f"{kind}_left_out"] = len(chosen) - number
                break
            broken = subject.tried(cut)
            record[kind] += 1
            record[f"{kind}_exact_in_eval"] += not broken.keys() & {"divide", "eval", "state"}
            record[f"{kind}_exact_in_train"] += not broken.keys() & {"divide", "train", "state"}
            record["failures"] += [{"cut": cut.label, "check": c, "reason": why} for c, why in broken.items()]
            note(record)
    many = samples(SAMPLES)
    for kind, chosen in offered.items():
        record[f"{kind}_frozen"] = 0
        for cut in chosen[: record[kind]]:
            if time.monotonic() - start > plan.seconds:
                break
            seed()
            refused = refusal(model, cut, many, 1 if kind == "tested" else SEVERAL)
            if refused is None:
                record[f"{kind}_frozen"] += 1
            else:
                record["failures"].append({"cut": cut.label, "check": refused[0], "reason": _told(refused[1])})
            note(record)
    return note(record)


@dataclass
class Trial:
    """One batch in one mode, and what the whole model makes of it."""

    example: Example
    training: bool
    expected: Run

    @classmethod
    def of(cls, model: nn.Module, example: Example, training: bool) -> Trial:
        return cls(example, training, whole(copy.deepcopy(model), copy.deepcopy(example), training=training))

    @property
    def name(self) -> str:
        return "train" if self.training else "eval"


@dataclass
class Subject:
    """The model that is divided, and what it was before."""

    model: nn.Module
    trials: Sequence[Trial]
    before: Record = field(init=False)
    luck: Record = field(init=False)
    buffers: dict[str, Any] = field(init=False)
    modes: list[tuple[nn.Module, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self.before, self.luck = state(self.model), chance()
        self.buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.modes = [(module, module.training) for module in self.model.modules()]

    def moved(self) -> str | None:
        """What has changed since the beginning."""
        return difference("state", self.before, state(self.model)) or difference("random state", self.luck, chance())

    def tried(self, cut: Cut) -> dict[str, str]:
        """Divide there; the checks that failed, with the reason."""
        seed()
        self.luck = chance()
        try:
            prefix, suffix = divide(self.model, cut, self.trials[0].example, verify=False)
        except Exception as error:
            return {"divide": _told(error)}
        broken: dict[str, str] = {}
        moved = self.moved()
        if moved is not None:
            broken["state"] = moved
        sides = {name for part in (prefix, suffix) for name, _ in part.named_parameters(remove_duplicate=False)}
        for trial in self.trials:
            lost = [n for n, g in trial.expected.gradients.items() if g is not None and n not in sides]
            wrong = f"gradient of '{lost[0]}' is in neither part" if lost else self._compared(trial, prefix, suffix)
            if wrong is not None:
                broken.setdefault("rounding" if wrong.startswith(OTHER_KERNELS) else trial.name, wrong)
            self.restore()
        changed = difference("state", values(self.before), values(state(self.model)))
        if changed is not None:
            broken.setdefault("state", changed)
        del prefix, suffix
        if any(is_dispatcher(value) for module in self.model.modules() for value in vars(module).values()):
            broken.setdefault("state", "something answers the model's calls though no part of it is left")
        self.before = state(self.model)  # with what a forward leaves behind
        return broken

    def _compared(self, trial: Trial, prefix: nn.Module, suffix: nn.Module) -> str | None:
        def got(recording: bool) -> Run:
            example = copy.deepcopy(trial.example)
            return divided(self.model, prefix, suffix, example, training=trial.training, recording=recording)

        try:
            wrong = trial.expected.difference(got(recording=False))
        except Exception as error:
            return _told(error)
        if wrong is None:
            return None
        self.restore()
        if trial.expected.difference(Trial.of(self.model, trial.example, trial.training).expected) is not None:
            return f"the model differs from itself from run to run: {wrong}"
        if trial.training and trial.expected.difference(got(recording=True)) is None:
            return f"{OTHER_KERNELS}, exact where it does: {wrong}"
        return wrong

    def restore(self) -> None:
        for module, mode in self.modes:
            module.training = mode
        for name, buffer in self.buffers.items():
            path, _, key = name.rpartition(".")
            self.model.get_submodule(path)._buffers[key] = buffer.clone()  # a run may have put another one there


def _reasons(model: nn.Module, example: Example) -> Record:
    """Why the model's outermost modules are no cuts, and whether it must be so."""
    seen = survey(model, example)
    places = list(judge(seen, 0))
    depth = next((d for d in range(8) if sum(name.count(".") <= d for name, _ in places) >= ENOUGH), 8)
    reasons = {}
    for name, call in places:
        if name and name.count(".") <= depth:
            reason = why_not(seen, (name, call))
            reasons[f"{name}#{call}" if call else name] = reason if reason is not None else "a cut"
    refused = [reason for reason in reasons.values() if reason != "a cut"]
    return {"structural": all(r.startswith(STRUCTURAL) for r in refused), "reasons": reasons}


class TooLargeError(Exception):
    """The model does not fit into the memory that a process may take."""


def _told(error: Exception) -> str:
    """An error in one line.

    Raises:
        TooLargeError: the error says that memory ran out, which tells nothing about the model.
    """
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        raise TooLargeError("memory ran out") from error
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {' '.join(first.split())[:300]}"
