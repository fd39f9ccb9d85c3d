"""What decides the last bits of features beside the model and the data: libraries, the device, and how it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..provenance import versions_of

__all__ = ["numerics_of"]

LIBRARIES = ("torch", "numpy", "PIL", "hoarfrost")
"""Those that everything passes through; a change of them is as a rule none of features, or of their last bits."""


def numerics_of(device: torch.device) -> dict[str, Any]:
    """By names that a message can give."""
    told: dict[str, Any] = {
        **versions_of(LIBRARIES),
        "device": device.type,
        "matmul_precision": _told(torch.get_float32_matmul_precision),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cpu":
        told["cpu"] = torch.backends.cpu.get_cpu_capability()
        told["threads"] = torch.get_num_threads()
        told["mkldnn"] = bool(torch.backends.mkldnn.enabled)
    elif device.type == "cuda":
        told["gpu"] = torch.cuda.get_device_name(device)
        told["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        told["cudnn_deterministic"] = torch.backends.cudnn.deterministic
        told["cudnn_benchmark"] = torch.backends.cudnn.benchmark
        told["tf32"] = {
            "matmul": _told(lambda: torch.backends.cuda.matmul.allow_tf32),
            "conv": _told(lambda: torch.backends.cudnn.allow_tf32),
        }
    return told


def _told(ask: Callable[[], Any]) -> Any:
    """torch refuses to say it where the older and the newer of its switches were used together."""
    try:
        return ask()
    except RuntimeError as error:
        return str(error).splitlines()[0]
