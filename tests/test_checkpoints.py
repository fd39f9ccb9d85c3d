"""Trees of tensors and plain values, written whole or not at all."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import checkpoints
from hoarfrost.checkpoints import load_tree, random_state, restore_random_state, save_tree
from hoarfrost.errors import CheckpointError


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    tied = torch.randn(3)
    tree = {
        "weights": {"a": tied, "b": tied, "empty": torch.zeros(0, 2)},
        "state": {0: {"step": torch.tensor(3.0), "momentum": None}, 7: {}},
        "list": [1, 2.5, True, "text", None, [torch.arange(2)]],
    }
    save_tree(tmp_path / "deep" / "tree", tree)
    back = load_tree(tmp_path / "deep" / "tree")
    assert torch.equal(back["weights"]["a"], tied)
    assert torch.equal(back["weights"]["b"], tied)
    assert back["weights"]["empty"].shape == (0, 2)
    assert set(back["state"]) == {0, 7}
    assert back["list"][:5] == tree["list"][:5]  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [object()]}, "a object at '/a/0' cannot be stored"),
        ({"a": {1: 2, "b": 3}}, "the keys at '/a' are neither"),
    ],
    ids=["object", "mixed keys"],
)
def test_what_a_tree_cannot_hold(tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        save_tree(tmp_path / "tree", value)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_writing_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tree(tmp_path / "tree", {"epoch": 1})

    def torn(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        save_tree(tmp_path / "tree", {"epoch": 2})
    assert load_tree(tmp_path / "tree") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {"weights": torch.randn(100)})
    whole = (tmp_path / "tree").read_bytes()
    for content in (whole[:50], whole[: len(whole) // 2], b"", b"other" * 20):
        (tmp_path / "tree").write_bytes(content)
        with pytest.raises(CheckpointError, match="tree is no checkpoint of Hoarfrost, or it is damaged"):
            load_tree(tmp_path / "tree")


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_tree(tmp_path / "tree")


def test_the_random_state_goes_on_where_it_was() -> None:
    kept = random_state()
    first = torch.rand(3)
    restore_random_state(kept)
    assert torch.equal(first, torch.rand(3))


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], data: Callable[[bytes], bytes] = bytes) -> None:
    """A checkpoint with another header, or other bytes behind it."""
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data(whole[8 + size :]))


def test_a_flipped_bit_is_told(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {"weights": torch.randn(100), "epoch": 3})
    rewritten(tmp_path / "tree", lambda header: None, lambda data: data[:50] + bytes([data[50] ^ 4]) + data[51:])
    with pytest.raises(CheckpointError, match="its checksum does not fit"):
        load_tree(tmp_path / "tree")


def test_a_changed_plain_value_is_told(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {"epoch": 3})
    rewritten(tmp_path / "tree", lambda header: header["__metadata__"].update(tree='{"epoch": 4}'))
    with pytest.raises(CheckpointError, match="its checksum does not fit"):
        load_tree(tmp_path / "tree")


def test_a_checkpoint_without_a_checksum_is_of_another_version(tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {"epoch": 3})
    rewritten(tmp_path / "tree", lambda header: header["__metadata__"].pop("crc32"))
    with pytest.raises(CheckpointError, match="another version of Hoarfrost: it has no checksum"):
        load_tree(tmp_path / "tree")


def test_places_do_not_share_a_name(tmp_path: Path) -> None:
    tree = {"a/b": torch.zeros(2), "a": {"b": torch.ones(2)}, "a~1b": torch.full((2,), 2.0), "a~b": [torch.ones(1)]}
    save_tree(tmp_path / "tree", tree)
    back = load_tree(tmp_path / "tree")
    assert back["a/b"].tolist() == [0, 0]
    assert back["a"]["b"].tolist() == [1, 1]
    assert back["a~1b"].tolist() == [2, 2]


@pytest.mark.parametrize("key", ["__tensor__", "__integer_keys__"])
def test_the_words_that_tensors_are_marked_by_are_no_keys(key: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"the key '{key}' at '/a' is what tensors are marked by"):
        save_tree(tmp_path / "tree", {"a": {key: 1}})


@pytest.mark.parametrize(
    "tree",
    [
        "[" * 10**5,
        "[" * 100 + "]" * 100,
        '{"__tensor__": "nowhere"}',
        '{"__tensor__": [1]}',
        '{"__integer_keys__": 3}',
        '{"__integer_keys__": {"x": 3}}',
        '{"__integer_keys__": {"' + "9" * 5000 + '": 3}}',
        "NaN NaN",
        "",
    ],
    ids=lambda tree: tree[:30],
)
def test_a_checkpoint_from_a_stranger_is_refused_by_name(tree: str, tmp_path: Path) -> None:
    save_tree(tmp_path / "tree", {})
    crc = f"{zlib.crc32(tree.encode()):08x}"
    rewritten(tmp_path / "tree", lambda header: header["__metadata__"].update(tree=tree, crc32=crc))
    with pytest.raises(CheckpointError, match="tree is no checkpoint of Hoarfrost, or it is damaged"):
        load_tree(tmp_path / "tree")


def test_a_header_that_declares_more_than_there_is(tmp_path: Path) -> None:
    for size in (1 << 40, (1 << 64) - 1):
        (tmp_path / "tree").write_bytes(struct.pack("<Q", size) + b"{}")
        with pytest.raises(CheckpointError, match="is no checkpoint of Hoarfrost"):
            load_tree(tmp_path / "tree")


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tree")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_tree(tmp_path / "tree")
