"""A tree of tensors and plain values in one file, written whole or not at all.

The tensors lie in safetensors' format, the rest as JSON in its metadata, with a checksum over all of it: nothing read
back is ever unpickled.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError
from .untrusted import check_depth, open_regular, parse_json

__all__ = ["load_tree", "random_state", "restore_random_state", "save_model", "save_tensors", "save_tree"]

TENSOR, INTEGER_KEYS = "__tensor__", "__integer_keys__"


def save_tree(path: str | Path, tree: Any) -> None:
    """Write nested dicts, lists, tensors, numbers, strings, booleans and None to `path`, atomically.

    Raises:
        CheckpointError: a value of another type; its place in the tree is named.
    """
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(tree, "", tensors)
    try:
        check_depth(plain)
    except ValueError as error:
        raise CheckpointError(f"the tree cannot be stored in a checkpoint: {error}") from error
    text = json.dumps(plain)
    save_tensors(path, tensors, {"tree": text, "crc32": _checksum(text, tensors)})


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors as a safetensors file: to a temporary name, flushed, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # one name: what a killed run left is written over
    # Tied weights share storage, which the format refuses; each name gets bytes of its own.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    try:
        save_file(own, temporary, metadata)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_model(path: Path, model: nn.Module) -> None:
    """The model's own state_dict under its own names, as safetensors, atomically."""
    save_tensors(path, model.state_dict(), {"format": "pt"})


def load_tree(path: str | Path) -> Any:
    """What `save_tree` wrote.

    Raises:
        CheckpointError: there is no such file, or it is no checkpoint of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        os.close(open_regular(path, follow=True))
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            told = file.metadata() or {}
        plain = parse_json(told["tree"])
        if "crc32" not in told:
            raise CheckpointError(
                f"the checkpoint {path} was made by another version of Hoarfrost: it has no checksum; go on with that "
                "version, or begin again"
            )
        if told["crc32"] != _checksum(told["tree"], tensors):
            raise ValueError("its checksum does not fit")
        return _with_tensors(plain, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise CheckpointError(f"{path} is no checkpoint of Hoarfrost, or it is damaged: {str(error)[:400]}") from error


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of all that a tree is: its plain values, and each tensor with its name, dtype and shape."""
    crc = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        crc = zlib.crc32(f"{name} {values.dtype} {tuple(values.shape)}".encode(), crc)
        crc = zlib.crc32(values.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _step(key: object) -> str:
    """A key as part of a place, such that two places are two names."""
    return str(key).replace("~", "~0").replace("/", "~1")


def _without_tensors(node: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        tensors[place] = node
        return {TENSOR: place}
    if isinstance(node, Mapping):
        integer = bool(node) and all(isinstance(key, int) for key in node)
        if not integer and not all(isinstance(key, str) for key in node):
            raise CheckpointError(f"the keys at {place or 'the root'!r} are neither all strings nor all integers")
        if marks := {TENSOR, INTEGER_KEYS} & set(node):
            raise CheckpointError(f"the key {min(marks)!r} at {place or 'the root'!r} is what tensors are marked by")
        inner = {str(key): _without_tensors(value, f"{place}/{_step(key)}", tensors) for key, value in node.items()}
        return {INTEGER_KEYS: inner} if integer else inner
    if isinstance(node, (list, tuple)):
        return [_without_tensors(value, f"{place}/{number}", tensors) for number, value in enumerate(node)]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise CheckpointError(f"a {type(node).__name__} at {place!r} cannot be stored in a checkpoint")


def _with_tensors(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if TENSOR in node:
            return tensors[node[TENSOR]]
        if INTEGER_KEYS in node:
            if not isinstance(node[INTEGER_KEYS], dict):
                raise ValueError("whole numbers are the keys of nothing")
            return {int(key): _with_tensors(value, tensors) for key, value in node[INTEGER_KEYS].items()}
        return {key: _with_tensors(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_tensors(value, tensors) for value in node]
    return node


def random_state() -> dict[str, Tensor]:
    """Torch's random state on the CPU and on each CUDA device."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda:{number}": saved for number, saved in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    for name, saved in state.items():
        if name != "cpu":
            torch.cuda.set_rng_state(saved, torch.device(name))
