"""Trees of tensors and plain values, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost.errors import CheckpointError
from hoarfrost.running import checkpoints
from hoarfrost.running.checkpoints import load_tree, random_state, restore_random_state, save_tree


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
