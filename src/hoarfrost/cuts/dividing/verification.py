"""The law of division, tried out: the two parts together compute what the model computes, bit for bit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import HoarfrostError, InvalidCutError
from ..sandbox.arguments import Arguments
from ..sandbox.clone import shadow
from ..sandbox.compiled import uncompiled
from ..sandbox.hooks import hooks_apart
from ..sandbox.pytrees import leaves, map_leaves, tensors_in
from ..sandbox.restore import Originals, borrowed, preserved_randomness, seed_randomness
from .partition import Plan
from .prefix import Prefix
from .script import Script
from .suffix import Suffix

__all__ = ["check_law"]

SEED = 0


@torch.inference_mode(False)
def check_law(plan: Plan, model: nn.Module, inputs: Arguments) -> float:
    """Divide a shadow of the model and compare it with the model on these inputs, in eval and in train.

    Compared are outputs, the buffers afterwards, and the gradients of the parameters behind the cut (but for those
    that act on both sides); in eval with the model itself, for a shadow may miss what the model does. Buffers in front
    are left out where a checkpoint there is run again by the model's backward pass, which the parts' does not reach:
    batch norms count such a batch twice. The model's buffers, gradients and flags and the random states stay as they
    are.

    Returns:
        By how much features differ that are made without gradients, as a frozen prefix makes them: torch may choose
        other kernels then. The largest difference as a share of the largest value; 0 for equal bits.

    Raises:
        InvalidCutError: something differs; the message says what, in which mode, and by how much.
    """
    where = f"cut '{plan.cut.label}'"
    in_front = {f"buffer '{name}'" for name, sides in plan.sides.items() if sides == (True, False)}
    left_out = in_front if plan.recomputed_in_front else set()
    inputs = inputs.take(max(inputs.samples, 2))
    with preserved_randomness(inputs), inputs.precision.anew():
        for training in (False, True):
            mode = "train" if training else "eval"
            whole = Whole(plan, model, training)
            parts = Parts(plan, model, training)
            expected = whole.run(inputs, parts.names)
            if not training:
                shown = {name: value for name, value in expected.items() if name.startswith("output ")}
                difference = _difference(_itself(plan, model, inputs), shown)
                if difference:
                    raise InvalidCutError(f"{where}: the model does what its modules alone do not: {difference}")
            try:
                got = parts.run(inputs, parts.names)
            except HoarfrostError:
                raise
            except Exception as error:
                raise InvalidCutError(
                    f"{where}: in {mode} mode the model runs, the parts fail: {type(error).__name__}: {error}"
                ) from error
            expected, got = _without(expected, left_out), _without(got, left_out)
            difference = _difference(expected, got)
            if difference and _difference(
                expected, _without(Whole(plan, model, training).run(inputs, parts.names), left_out)
            ):
                # The device itself does not repeat its bits: closeness is all that can be asked.
                difference = _difference(expected, got, tolerance=max(1e-3, 4 * _step(inputs, plan.cut.dtype)))
            if difference:
                raise InvalidCutError(f"{where}: in {mode} mode {difference}")
        return parts.rounding(inputs)


Results = dict[str, Any]


def _itself(plan: Plan, model: nn.Module, inputs: Arguments) -> Results:
    """What the user's model gives in eval, undisturbed."""
    with borrowed(model, plan.seen.written), hooks_apart(model), torch.no_grad(), uncompiled():
        model.eval()
        seed_randomness(SEED, inputs)
        return _outputs_of(inputs.take(inputs.samples).call(model))


class Trial(ABC):
    """A shadow of the model on which one run is made: gradients, buffers and written parameters are its own."""

    def __init__(self, plan: Plan, model: nn.Module, training: bool) -> None:
        self.body, _ = shadow(model, copy_buffers=True, own_gradients=True)
        self.written = plan.seen.written
        self.training = training

    def run(self, inputs: Arguments, names: list[str]) -> Results:
        """Outputs, buffers, and the gradients of the parameters of these names."""
        seed_randomness(SEED, inputs)
        with Originals(self.written, at_once=True), torch.set_grad_enabled(self.training):
            output = self.call(inputs.take(inputs.samples))
            parameters = dict(self.body.named_parameters(remove_duplicate=False))
            found = _outputs_of(output) | {f"buffer '{name}'": buffer for name, buffer in self.body.named_buffers()}
            tensors = [t for t in tensors_in(output) if t.requires_grad]
            if tensors and names:
                # Weights that differ from entry to entry: a plain sum has no gradient through a softmax.
                torch.stack([(t * _weights(t)).sum().double() for t in tensors]).sum().backward()  # type: ignore[no-untyped-call]
                found |= {f"gradient of '{name}'": parameters[name].grad for name in names}
        return found

    @abstractmethod
    def call(self, inputs: Arguments) -> Any:
        """The output."""


class Whole(Trial):
    """The undivided model."""

    def __init__(self, plan: Plan, model: nn.Module, training: bool) -> None:
        super().__init__(plan, model, training)
        self.body.train(training)

    def call(self, inputs: Arguments) -> Any:
        return inputs.call(self.body)


class Parts(Trial):
    """Prefix and suffix."""

    def __init__(self, plan: Plan, model: nn.Module, training: bool) -> None:
        super().__init__(plan, model, training)
        self.prefix, self.suffix = Prefix(plan, self.body), Suffix(Script.of(plan), self.body)
        # As the model sets them, module by module: its own `train` may leave some in eval.
        flags = {name: module.training for name, module in self.body.train(training).named_modules()}
        for name, module in self.prefix.named_modules():
            module.training = flags[name]
        self.names = [n for n, p in self.suffix.named_parameters() if p.requires_grad and not plan.sides[n][0]]

    def call(self, inputs: Arguments) -> Any:
        features = map_leaves(_detached, inputs.call(self.prefix))
        kept = map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, features)
        output = self.suffix(features)
        if not all(map(_same, tensors_in(features), tensors_in(kept))):
            raise InvalidCutError(f"cut '{self.prefix.cut.label}': the suffix writes into the features")
        return output

    def rounding(self, inputs: Arguments) -> float:
        """How far apart features are that are made with and without gradients, in eval."""
        self.prefix.eval()
        made = []
        for with_gradients in (False, True):
            seed_randomness(SEED, inputs)
            with Originals(self.written, at_once=True), torch.set_grad_enabled(with_gradients):
                made.append(tensors_in(inputs.take(inputs.samples).call(self.prefix)))
        return max(_apart(a.detach(), b.detach()) for a, b in zip(*made, strict=True))


def _step(inputs: Arguments, dtype: torch.dtype) -> float:
    """From 1 to the next number, in the coarsest type that is computed in."""
    return max(torch.finfo(kind).eps for kind in (dtype, inputs.precision.dtype) if kind is not None)


def _apart(a: Tensor, b: Tensor) -> float:
    if not a.is_floating_point() or a.numel() == 0:
        return 0.0
    apart, largest = (a.double() - b.double()).abs().max().item(), b.double().abs().max().item()
    return apart / largest if largest else apart


def _outputs_of(output: Any) -> Results:
    return {f"output {number}": leaf for number, leaf in enumerate(leaves(output))}


def _without(results: Results, names: Collection[str]) -> Results:
    return {name: value for name, value in results.items() if name not in names}


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _weights(tensor: Tensor) -> Tensor:
    steps = torch.arange(tensor.numel(), device=tensor.device, dtype=torch.float64)
    return steps.cos().reshape(tensor.shape).to(tensor.dtype)


def _difference(expected: Results, got: Results, tolerance: float = 0.0) -> str | None:
    if expected.keys() != got.keys():
        return f"there are {len(got)} results, the model has {len(expected)}"
    for name, value in expected.items():
        other = got[name]
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            if value.shape != other.shape or value.dtype != other.dtype:
                return f"{name} is {list(other.shape)} {other.dtype}, the model's {list(value.shape)} {value.dtype}"
            if not _same(value, other, tolerance):
                by = (value.double() - other.double()).abs().max().item()
                return f"{name} differs from the model's by up to {by:.3g}"
        elif isinstance(value, Tensor) or isinstance(other, Tensor):
            return f"{name} is {type(other).__name__}, the model's {type(value).__name__}"
    return None


def _same(a: Tensor, b: Tensor, tolerance: float = 0.0) -> bool:
    if tolerance and a.is_floating_point():
        scale = a.double().abs().max().item() if a.numel() else 0.0
        return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    return torch.equal(a, b) or bool(torch.all((a == b) | (a.isnan() & b.isnan())))
