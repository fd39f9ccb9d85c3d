"""What a launcher has started, and what it was told that is not done."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from accelerate.state import AcceleratorState, PartialState

from hoarfrost.errors import ArgumentError, HoarfrostError
from hoarfrost.running import Processes, RunConfig, process_number, started
from hoarfrost.running.launcher import COUNTS, NUMBERS


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COUNTS, *NUMBERS, "MASTER_PORT", "ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_launcher_there_is_one() -> None:
    assert started() == 1
    assert Processes.of(RunConfig()).ranks.alone


@pytest.mark.parametrize("name", COUNTS)
def test_launchers_say_how_many_there_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    assert started() == 3


@pytest.mark.parametrize(("count", "number"), zip(COUNTS, NUMBERS, strict=True))
def test_launchers_say_which_of_them_it_is(count: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(number, "2")
    assert process_number() == 0  # left from somewhere, where one process trains
    monkeypatch.setenv(count, "3")
    assert process_number() == 2


@pytest.mark.parametrize("nonsense", ["", "0", "many"])
def test_a_number_that_is_none_is_one(nonsense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", nonsense)
    assert started() == 1


def test_accelerate_that_starts_one_for_several_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert started() == 1
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ArgumentError, match="starts one process, however many it is told"):
        started()
    monkeypatch.setenv("PMI_SIZE", "2")
    assert started() == 2


def test_a_precision_of_the_launcher_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(ArgumentError, match="say --precision bf16 to the run"):
        started()
    assert started("bf16") == 1


def test_one_device_for_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="'cuda:1' is one device, and 2 processes train: say 'cuda'"):
        Processes.of(RunConfig.told(device="cuda:1"))


def test_several_without_accelerate_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name == "accelerate":
            raise ImportError("No module named 'accelerate'")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert Processes.of(RunConfig()).ranks.alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HoarfrostError, match=r"2 processes were started, .*pip install 'hoarfrost\[accelerate\]'"):
        Processes.of(RunConfig())


def test_a_number_of_processes_that_nobody_started_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(AcceleratorState, "_shared_state", {})
    monkeypatch.setattr(PartialState, "_shared_state", {})
    with pytest.raises(HoarfrostError, match=r"cannot find each other \(.*\): start them with torchrun"):
        Processes.of(RunConfig.told(device="cpu"))
