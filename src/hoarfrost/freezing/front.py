"""The front of a model as it freezes: how deep it goes, the surgery, and what is done to it before."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from ..cuts import (
    Cut,
    Example,
    OtherLengths,
    bare,
    call_of,
    candidate_cuts,
    divide,
    first_tensor,
    misshapen,
    suffix_for,
)
from ..errors import ArgumentError, CheckpointError, InvalidCutError
from .division import Division
from .held_back import held_back
from .precision import TrainingPrecision
from .reduction import Reduction, undistributed
from .route import Route
from .settler import Settler
from .surgery import Frozen, freeze, thaw

__all__ = ["Front"]

_latest: WeakKeyDictionary[nn.Module, ref[Front]] = WeakKeyDictionary()


class Front:
    """What of a model is frozen; called, it runs the rest on what crosses the cut.

    Args:
        example: a few images, as cuts were found on.
        optimizer: gives up what freezes, and has it back behind a thaw; or None.
        settle: "auto", "last", "statistics" or "average", as in `Freezer`.
        main: the keyword that features come under, where the model is called with keywords.
        keep: whether it stays frozen behind `close`.
        route: see there.
        precision: that steps compute in; None: it is seen as they run.
        other: inputs of other lengths, where they differ in length.
        other_sizes: inputs of each other size that it is called with too.

    Made for a model that has one already, it takes that one's place: the earlier is closed.
    """

    def __init__(
        self,
        model: nn.Module,
        cuts: Sequence[Cut],
        example: Example,
        optimizer: Any = None,
        settle: str = "auto",
        main: str | int | None = None,
        keep: bool = False,
        route: bool = False,
        precision: TrainingPrecision | None = None,
        other: OtherLengths | None = None,
        other_sizes: Sequence[Example] = (),
    ) -> None:
        self._reduction = Reduction.of(model)
        model = undistributed(model)
        self._called, self._model = model, bare(model)  # as the user compiled it, and as it is written
        self.cuts, self._example, self._optimizer = tuple(cuts), example, optimizer
        self.depth = 0
        """How much is frozen: everything in front of `cuts[depth - 1]`; 0 is nothing."""
        self.division: Division | None = None
        """The model as it is divided now; None: all of it trains."""
        self.precision = precision or TrainingPrecision(None, first_tensor(example).device)
        """What steps compute in; a division runs in what it was when it was made."""
        self._frozen: list[Frozen] = []
        self._main, self.keep = main, keep
        self._other, self._other_sizes = other, tuple(other_sizes)
        self._settler = Settler(settle, self._model, self._reachable)
        self._told_other = False
        self._route: Route | None = None
        self.superseded = False
        """Whether another one has been made for the model since."""
        earlier = _latest.get(self._model, lambda: None)()
        if earlier is not None:
            earlier.close()
            earlier.superseded = True
        _latest[self._model] = ref(self)
        if route:
            self.route()

    @property
    def cut(self) -> Cut | None:
        """Where the model is divided now, or None."""
        return self.cuts[self.depth - 1] if self.depth else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Of the whole model, by name."""
        return dict(self._model.named_parameters(remove_duplicate=False))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The output for inputs, or for features of the cut in the place of the first of them.

        Raises:
            ArgumentError: inputs where features are needed.
        """
        if self._reduction is None:
            return self._run(*args, **keywords)
        return self._reduction.run(self._run, args, keywords)

    def _run(self, *args: Any, **keywords: Any) -> Any:
        division = self.division
        if self._model.training and torch.is_grad_enabled():
            self._note_step()
        with self.precision.autocast():
            if division is None:
                return self._called(*args, **keywords)
            rows = _rows(args[0] if args else keywords.get(str(self._main)))
            suffix = (division.resized and division.suffix_of(rows)) or division.suffix
            if len(args) + len(keywords) > 1:
                suffix.check_arguments(0 if args else str(self._main), args, keywords)
            return suffix(self._features(suffix.cut if division.resized else division.cut, args, keywords))

    def _features(self, cut: Cut, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """What the suffix takes. An argument that it needs again is the call's: the loop may have changed it."""
        given = args[0] if args else keywords.get(str(self._main))
        rows = _rows(given)
        alone = len(cut.rows) == 1
        if len(rows) != len(cut.rows) or (alone and (rows[0] is not given or misshapen(given.shape[1:], cut.rows[0]))):
            got = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ArgumentError(
                f"the freezer is at cut {cut.label!r} and takes features [B, "
                f"{', '.join(map(str, cut.shape))}] from batches(), not {got}; "
                "to evaluate on images call the model itself"
            )
        if not cut.others:
            return given
        held, again, call = iter(rows), [], call_of(self._model, args, keywords)
        for crossing in cut.tensors:
            stored = None if crossing.shape is None else next(held)
            if crossing.is_argument:
                if stored is None and crossing.source not in call:
                    raise ArgumentError(
                        f"behind cut {cut.label!r} the model needs its argument {crossing.source!r} again: call the "
                        "freezer as the model is called"
                    )
                if stored is None or isinstance(call.get(crossing.source), Tensor):
                    again.append(call[crossing.source])
                    continue
            again.append(stored[:, 0] if crossing.shape == () and stored is not None else stored)
        return tuple(again)

    def freeze(self, depth: int, event: int, inputs: Iterator[Example] | None) -> Division:
        """Divide, settle, make the prefix inert.

        Args:
            event: the epoch that begins frozen.
            inputs: batches to settle on; None: the weights are those of an earlier freeze.
        """
        cut = self.cuts[depth - 1]
        if self._route is not None:
            self._check_told_apart(cut)
        precision = self.precision.now
        with precision.autocast():
            prefix, suffix = divide(self._called, cut, self._example, other=self._other)
            resized = tuple(suffix_for(self._called, cut, inputs) for inputs in self._other_sizes)
        for part in (prefix, suffix, *resized):
            part.precision = precision
        prefix.resized = tuple(other.cut for other in resized)
        self._told_other = False
        if inputs is not None:
            self._settler.settle(prefix, inputs, self._frozen[-1].prefix if self._frozen else None)
        with held_back():
            self._frozen.append(freeze(self._model, prefix, self._optimizer))
            self._release()
            self.depth = depth
            self.division = Division(cut, prefix, suffix, event, resized, self._settler.settled)
            self._renew_reduction(prefix.buffers())
        return self.division

    @property
    def outdated(self) -> bool:
        """Whether steps compute in something else by now than the division was made for."""
        return self.division is not None and self.division.precision != self.precision.now

    def thaw(self) -> None:
        """Everything trains again."""
        with held_back():
            while self._frozen:
                thaw(self._frozen.pop())
            self._release()
            if self.depth:
                self._renew_reduction()
            self.depth, self.division = 0, None

    def _renew_reduction(self, still: Iterable[Tensor] = ()) -> None:
        """Other parameters train from now on, and these buffers do not change any more."""
        if self._reduction is not None:
            self._reduction.renew(still)

    def _release(self) -> None:
        """The division of so far answers no calls of the model's modules any more."""
        if self.division is not None:
            self.division.release()

    def route(self) -> None:
        """From now on the model itself does what this does when it is called: with features it runs what is behind the
        cut. What is no features runs all of it.

        Raises:
            InvalidCutError: at the cut features look like the model's inputs.
        """
        if self.cut is not None:
            self._check_told_apart(self.cut)
        if self._route is None:
            self._route = Route(self._called, self._is_mine, self._run)

    def _is_mine(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
        """Whether a call of the model holds features; or is a step, of which a freeze will want to know."""
        if self.division is None:
            return self._model.training and torch.is_grad_enabled()
        return self.division.suffix_of(_rows(args[0] if args else keywords.get(str(self._main)))) is not None

    def _check_told_apart(self, cut: Cut) -> None:
        inputs = first_tensor(self._example)
        if len(cut.rows) == 1 and not misshapen(inputs.shape[1:], cut.rows[0]):
            raise InvalidCutError(
                f"cut {cut.label!r}: features are {list(cut.shape)} a sample, and so are the model's inputs, so that a "
                "call of the model cannot tell them apart: call freezer(features), without route, or freeze elsewhere"
            )

    def close(self) -> None:
        """The model is as it was but for its weights, unless it is to stay frozen; its calls are its own."""
        if self._route is not None:
            self._route.close()
            self._route = None
        if not self.keep:
            self.thaw()
        if self._reduction is not None:
            self._reduction.close()

    def begin(self) -> None:
        """A batch is about to be trained on."""
        self._settler.begin()

    def end_epoch(self) -> None:
        """What is known of the epoch's steps belongs to the past."""
        self._settler.end_epoch()

    def _note_step(self) -> None:
        """What a freeze will want to know of the steps in front of it."""
        self._settler.note_step()
        self.precision.step()
        if self.outdated and not self._told_other:
            self._tell_other()

    def _tell_other(self) -> None:
        """Once for each division."""
        self._told_other = True
        made = "in another precision" if self.division is None else self.division.precision
        warnings.warn(
            f"hoarfrost: the frozen front was run {made}, and the freezer is called {self.precision.now}. This epoch "
            "goes on as it began, features and suffix alike; from the next one on both follow the call. To have it so "
            'from the start say Freezer(..., precision="bf16" or "fp16"), or put the autocast around the whole loop',
            stacklevel=4,
        )

    def _reachable(self) -> dict[str, nn.Parameter]:
        """Parameters that a freeze may reach, by name."""
        if not self.cuts:
            return {}
        prefix, _ = divide(self._model, candidate_cuts(self.cuts)[-1], self._example, verify=False)
        named = dict(self._model.named_parameters(remove_duplicate=False))
        return {name: named[name] for name in (*prefix.parameter_names, *prefix.shared_parameters)}

    def state_dict(self) -> dict[str, Any]:
        """How deep it goes, and what is known of the epoch's steps so far."""
        return {
            "depth": self.depth,
            "cut": self.cut.label if self.cut else None,
            "event": self.division.event if self.division else None,
            "front": {"precision": self.precision.state_dict(), "settle": self._settler.state_dict()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Freeze as deep as it was, with the weights as they are; whether that changed the division.

        Raises:
            CheckpointError: as `checked_depth`.
        """
        depth, division, known = self.checked_depth(state), self.division, state["front"]
        self.precision.load_state_dict(known["precision"])
        same = division is not None and division.event == state["event"] and not self.outdated
        changed = depth and (depth > self.depth or not same)
        self._settler.load_state_dict(known["settle"])
        if changed:
            self.freeze(depth, int(state["event"]), None)
        return bool(changed)

    def checked_depth(self, state: Mapping[str, Any]) -> int:
        """The depth of a state.

        Raises:
            CheckpointError: it is frozen up to a cut that this model has elsewhere, or not at all.
        """
        depth = int(state["depth"])
        label = self.cuts[depth - 1].label if 0 < depth <= len(self.cuts) else None
        if depth and label != state["cut"]:
            raise CheckpointError(
                f"the checkpoint is frozen up to cut {state['cut']!r} (depth {depth}), where this model has {label!r}"
            )
        return depth


def _rows(given: Any) -> tuple[Any, ...]:
    """What a call gives in the place of the main input, tensor by tensor."""
    return (given,) if isinstance(given, Tensor) else tuple(given) if isinstance(given, tuple | list) else ()
