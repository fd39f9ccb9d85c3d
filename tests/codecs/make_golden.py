"""Writes the golden files. Run by hand, and only when the format's version rises: `python
tests/codecs/make_golden.py`.

Each file holds features, the codec's config and the encoded bytes, so that what today's caches hold can be
read by every later version. The bytes are decoded, never compared: another zstd may squeeze the same body
into other bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from hoarfrost.codecs import ZFP, BFloat16, Bounded, Codec, Exact, FirstTokens, Half, Linear, Shared

GOLDEN = Path(__file__).parent / "golden"
CODECS: list[Codec] = [
    Exact(),
    Half(),
    BFloat16(),
    *(Linear(bits) for bits in range(1, 9)),
    Shared(2),
    Shared(11),
    Shared(256),
    Shared(60, finer=(0, 3, 9)),
    Bounded(0.25),
    ZFP(0.5),
]


def main() -> None:
    # Quarters: every float format holds them exactly, so that the decoded values can be written down in JSON.
    features = (torch.arange(30).view(2, 3, 5) % 7 - torch.arange(3).view(1, 3, 1)).float() / 4
    for codec, axis in [*((codec, 1) for codec in CODECS), (FirstTokens(1, Shared(11), Half()), 2)]:
        payload = codec.encode(features, axis)
        name = "-".join(str(v) for v in codec.to_config().values() if isinstance(v, str | int))
        record = {
            "codec": codec.to_config(),
            "shape": list(features.shape),
            "dtype": "float32",
            "channel_axis": axis,
            "payload": payload.hex(),
            "decoded": codec.decode(payload, features.shape, features.dtype, axis).tolist(),
        }
        (GOLDEN / f"{name}.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
