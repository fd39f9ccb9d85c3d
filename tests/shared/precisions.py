"""A user's loop in mixed precision, with its autocast in one place or another, to compare runs bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.transforms import v2

from hoarfrost import Freezer
from shared.images import PLAIN, images
from shared.nets import in_place, resnet, vit
from shared.runs import Trace, sgd

CPU = torch.device("cpu")
BF16, FP16 = torch.bfloat16, torch.float16
CUTS = {resnet: "layer1", in_place: "features.2", vit: "encoder.layers.encoder_layer_0"}


@dataclass(frozen=True)
class Way:
    """How a loop trains: its autocast, where it stands, whether gradients are scaled, what the weights are."""

    dtype: torch.dtype | None
    around: str = "calls"
    scales: bool = False
    weights: torch.dtype = torch.float32
    precision: str | None = None

    def casting(self, device: torch.device, *places: str) -> Any:
        return torch.autocast(device.type, self.dtype) if self.around in places else nullcontext()

    @property
    def features(self) -> torch.dtype:
        return self.dtype or self.weights

    def transform(self, steps: v2.Compose) -> v2.Compose:
        return steps if self.weights == torch.float32 else v2.Compose([*steps.transforms, v2.ToDtype(self.weights)])


WAYS = {
    "bf16 around the calls": Way(BF16),
    "bf16 around the loop": Way(BF16, "loop"),
    "bf16 around the constructor and the loop": Way(BF16, "all"),
    "bf16 by the freezer": Way(BF16, "nothing", precision="bf16"),
    "bf16 weights": Way(None, "nothing", weights=BF16),
    "fp16 around the calls, gradients scaled": Way(FP16, scales=True),
    "fp16 by the freezer, gradients scaled": Way(FP16, "nothing", scales=True, precision="fp16"),
    "fp16 weights": Way(None, "nothing", weights=FP16),
}


def train(
    make: Callable[[], nn.Module],
    way: Way,
    steps: v2.Compose = PLAIN,
    epochs: int = 3,
    device: torch.device = CPU,
    **options: Any,
) -> Trace:
    """A user's own loop in mixed precision, from the same random state each time."""
    model, trace = make().to(device, way.weights), Trace([], [], {}, [])
    if options.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    optimizer, scaler = sgd(model), torch.amp.GradScaler(device.type, init_scale=64.0, enabled=way.scales)
    given = {"policy": {1: CUTS.get(make, "layer1")}, "ladder": "exact", "views": 1, **options}
    with way.casting(device, "all"):
        freezer = Freezer(
            model,
            images(120, way.transform(steps)),
            batch_size=40,
            epochs=epochs,
            optimizer=optimizer,
            precision=way.precision,
            verbose=False,
            **given,
        )
    torch.manual_seed(7)
    with freezer, way.casting(device, "loop", "all"):
        for epoch in range(epochs):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                with way.casting(device, "calls"):
                    loss = nn.functional.cross_entropy(freezer(inputs), targets)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
                trace.losses.append(loss.item())
                trace.gradients.append(grads)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                if freezer.depth:
                    assert inputs.dtype in (way.features, torch.float32 if make is vit else None)  # residuals are sums
            freezer.end_epoch()
        trace.history = list(freezer.history)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    return trace
