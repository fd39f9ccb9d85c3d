"""The reference loop: its rate, its checkpoints, and what Ctrl-C does to it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.checkpoints import load_tree, save_tree
from hoarfrost.errors import CheckpointError
from hoarfrost.freezing import held_back
from hoarfrost.running import cosine, fit, resuming
from hoarfrost.running.interruption import interruptible
from shared.images import RANDOM, images
from shared.nets import in_place, resnet
from shared.runs import adamw, assert_same_tensors, sgd

EPOCHS, STEPS = 3, 4


def fitted(
    folder: Path,
    *,
    make_model: Callable[[], nn.Module] = resnet,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd,
    epochs: int = EPOCHS,
    **options: Any,
) -> tuple[bool, dict[str, Tensor], list[dict[str, Any]]]:
    """Whether it ran to its end, the weights, and the records."""
    model = make_model()
    optimizer = make_optimizer(model)
    records: list[dict[str, Any]] = []
    torch.manual_seed(7)
    with Freezer(
        model,
        images(100, RANDOM),
        batch_size=25,
        epochs=epochs,
        optimizer=optimizer,
        policy={1: "layer1"} if make_model is resnet else "none",
        mode="cache",
        ladder=8,
        cache_dir=folder / "cache",
    ) as freezer:
        freezer.listener = records.append
        finished = fit(freezer, optimizer, epochs=epochs, checkpoint=folder / "checkpoint", **options)
    return finished, {name: value.clone() for name, value in model.state_dict().items()}, records


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Ctrl-C as in a terminal: a shell lets what it runs in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return fitted(tmp_path_factory.mktemp("whole"))[1]


def stopping_after(steps: int) -> Callable[[], bool]:
    """What `fit` asks after every step."""
    left = iter(range(steps - 1, -1, -1))
    return lambda: next(left) == 0


def test_the_rate_rises_and_falls_to_zero() -> None:
    rate = cosine(0.2)
    assert [rate(done) for done in (0.0, 0.1, 0.2, 0.6)] == pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert rate(1.0) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("steps", [2, STEPS, STEPS + 1, EPOCHS * STEPS], ids=["within", "end", "frozen", "last"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    steps: int, tmp_path: Path, undisturbed: dict[str, Tensor]
) -> None:
    finished, _, _ = fitted(tmp_path, stop=stopping_after(steps))
    assert not finished
    finished, weights, records = fitted(tmp_path, resume=True)
    assert finished
    assert_same_tensors(weights, undisturbed)
    assert records[0] == {"event": "resume", "epoch": (steps - 1) // STEPS, "step": (steps - 1) % STEPS + 1}


def test_a_finished_checkpoint_trains_no_more(tmp_path: Path, undisturbed: dict[str, Tensor]) -> None:
    fitted(tmp_path)
    finished, weights, records = fitted(tmp_path, resume=True, on_step=lambda done, of: pytest.fail("it trained"))
    assert finished
    assert records == []
    assert_same_tensors(weights, undisturbed)


def test_the_records_tell_the_mean_over_samples(tmp_path: Path) -> None:
    losses: list[float] = []

    def criterion(output: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(output, targets)
        losses.append(loss.item())
        return loss

    _, _, records = fitted(
        tmp_path, epochs=3, criterion=criterion, evaluate=lambda model: {"accuracy": 0.5}, evaluate_every=2
    )
    epochs = [record for record in records if record["event"] == "epoch"]
    assert [record["loss"] for record in epochs] == pytest.approx(
        [math.fsum(losses[i : i + STEPS]) / STEPS for i in range(0, 3 * STEPS, STEPS)]
    )
    assert ["test_accuracy" in record for record in epochs] == [False, True, True]
    assert epochs[1]["train_flops"] < epochs[0]["train_flops"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 4}, "belongs to a run of 3 epochs, this one has 4"),
        ({"make_model": in_place}, "is another model's: only the checkpoint has 'stem"),
        ({"make_optimizer": adamw}, "was made with SGD, not AdamW"),
    ],
    ids=["epochs", "model", "optimizer"],
)
def test_a_checkpoint_of_another_run_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    fitted(tmp_path, stop=stopping_after(2))
    with pytest.raises(CheckpointError, match=words):
        fitted(tmp_path, resume=True, **options)


def test_a_checkpoint_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    fitted(tmp_path, stop=stopping_after(2))
    saved = load_tree(tmp_path / "checkpoint")
    save_tree(tmp_path / "checkpoint", {name: part for name, part in saved.items() if name != "optimizer_class"})
    with pytest.raises(CheckpointError, match="made by another version of Hoarfrost: it lacks optimizer_class; go on"):
        fitted(tmp_path, resume=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": [1]},
        {"tally": [0.0, "x", 3]},
        {"step": True},
        {"schedule": {"lr_lambdas": None}},
        {"random": {"cpu": torch.zeros(3, dtype=torch.uint8)}},
        {"freezer": {}},
        {"freezer": {"fingerprints": torch.zeros(2)}},
        {"optimizer": {"state": {}, "param_groups": 3}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_checkpoint_with_values_of_a_wrong_kind_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    fitted(tmp_path, stop=stopping_after(1))
    saved = load_tree(checkpoint)
    if wrong.get("freezer"):
        wrong = {"freezer": {**saved["freezer"], **wrong["freezer"]}}
    save_tree(checkpoint, {**saved, **wrong})
    with pytest.raises(CheckpointError, match=r"the checkpoint|a freezer.s state"):
        fitted(tmp_path, resume=True)


def test_there_has_to_be_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        fitted(tmp_path, resume=True)


# ---------------------------------------------------------------------- Ctrl-C


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def test_what_a_launcher_passes_on_is_the_same_ctrl_c() -> None:
    with interruptible(echo_seconds=0.05) as stop:
        send()
        send(signal.SIGTERM)
        assert stop()
        time.sleep(0.06)
        with pytest.raises(KeyboardInterrupt):
            send()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_is_a_question_and_the_second_an_order(number: int) -> None:
    before, heard = handlers(), []
    with interruptible(lambda: heard.append(True)) as stop:
        assert not stop()
        send(number)
        assert stop()
        assert heard == [True]
        with pytest.raises(KeyboardInterrupt):
            send(number)
    assert handlers() == before


@pytest.mark.parametrize("context", [interruptible, held_back])
def test_in_a_thread_signals_are_left_alone(context: Callable[[], Any]) -> None:
    before, seen = handlers(), []

    def work() -> None:
        with context():
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_one_ctrl_c_waits_for_what_is_written() -> None:
    before, written = handlers(), []

    def write() -> None:
        with held_back():
            send()
            written.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert written
    assert handlers() == before


def test_a_further_ctrl_c_does_not_wait() -> None:
    before, written = handlers(), []

    def write() -> None:
        with held_back():
            send()
            send()
            written.append(True)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not written
    assert handlers() == before


@pytest.mark.parametrize("times", [1, 2], ids=["second", "third"])
def test_ctrl_c_while_the_checkpoint_is_written(
    times: int, tmp_path: Path, undisturbed: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a first one in the second epoch, the second lets it be written; the third leaves the first epoch's."""
    saved = 0

    def slowly(path: Path, tree: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == 3:  # before the first epoch, behind it, and now
            for _ in range(times):
                send()
        save_tree(path, tree)

    monkeypatch.setattr(resuming, "save_tree", slowly)
    asked = stopping_after(STEPS + 2)
    with interruptible() as stop:

        def stop_after_six() -> bool:
            if asked():
                send()
            return stop()

        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path, stop=stop_after_six)
    left = load_tree(tmp_path / "checkpoint")
    assert (left["epoch"], left["step"]) == ((1, 2) if times == 1 else (1, 0))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["checkpoint"]
    assert_same_tensors(fitted(tmp_path, resume=True)[1], undisturbed)
