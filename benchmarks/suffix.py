"""What a call of a suffix costs over the layers behind the cut, written out by hand.

Measures: microseconds of a call in eval without gradients, by the suffix and by hand, where there is little to compute:
the difference is what running the model's forward up to the cut on tensors without values costs.
On: ResNet-50 behind its last stage, a ViT of 12 blocks behind the last but one, both at 32 px, and a chain of 100 pairs
of a small linear layer and tanh behind 95 of them; random weights, two samples, one thread.
Repeats: `--repeats` (400 by default), by suffix and by hand in turn; the lower quartile, as other work only slows.

    python benchmarks/suffix.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.vision_transformer import VisionTransformer

from hoarfrost import divide, find_cut, find_cuts
from measuring.record import write_record


def pairs() -> nn.Sequential:
    return nn.Sequential(*[layer for _ in range(100) for layer in (nn.Linear(8, 8), nn.Tanh())], nn.Linear(8, 2))


Behind = Callable[[nn.Module, Tensor], Tensor]
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, Behind]] = {
    "resnet50": (
        lambda: resnet50(num_classes=10),
        (3, 32, 32),
        "layer4",
        lambda m, f: m.fc(torch.flatten(m.avgpool(f), 1)),
    ),
    "vit": (
        lambda: VisionTransformer(32, 8, 12, 2, 16, 32, num_classes=10),
        (3, 32, 32),
        "encoder.layers.encoder_layer_10",
        lambda m, f: m.heads(m.encoder.ln(m.encoder.layers[11](f))[:, 0]),
    ),
    "pairs": (pairs, (8,), "189", lambda m, f: m[190:](f)),
}


def microseconds(runs: list[Callable[[], Tensor]], repeats: int) -> list[float]:
    """The lower quartile of each, taken in turn."""
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 10):
        for run, seconds in zip(runs, taken, strict=True):
            began = time.perf_counter()
            run()
            if turn >= 10:
                seconds.append(time.perf_counter() - began)
    return [sorted(seconds)[len(seconds) // 4] * 1e6 for seconds in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/suffix.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in options.only:
        make, shape, label, behind = MODELS[name]
        torch.manual_seed(0)
        model, images = make().eval(), torch.randn(2, *shape)
        prefix, suffix = divide(model, find_cut(find_cuts(model, images), label), images, verify=False)
        with torch.no_grad():
            features = prefix.eval()(images)
            if not torch.equal(suffix(features), behind(model, features)):
                raise SystemExit(f"{name}: the layers by hand give something else than the suffix")
            runs = [partial(suffix, features), partial(behind, model, features)]
            by_suffix, by_hand = microseconds(runs, options.repeats)
        found[name] = {"suffix": by_suffix, "by_hand": by_hand, "over": by_suffix - by_hand}
        print(f"{name}: {by_suffix:.0f} us, by hand {by_hand:.0f} us, over it {by_suffix - by_hand:.0f} us", flush=True)
    write_record(options.out, options, microseconds=found)


if __name__ == "__main__":
    main()
