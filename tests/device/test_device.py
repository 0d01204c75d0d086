"""The names of devices, on machines with and without GPUs."""

from __future__ import annotations

import pytest
import torch

from palate.device import parse_device
from palate.errors import PalateError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    def pretend(number: int, apple: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert parse_device("auto") == "cpu"
    gpus(2)
    assert parse_device("auto") == "cuda"


def test_what_is_there_keeps_its_name(gpus):
    gpus(2, apple=True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert parse_device(name) == name


@pytest.mark.parametrize(
    ("name", "number", "told"),
    [
        ("cuda", 0, "the device 'cuda' is not there: torch finds no GPU. Use cpu, or auto."),
        ("cuda:0", 0, "torch finds no GPU"),
        ("cuda:2", 2, "the device 'cuda:2' is not there: torch finds 2"),
        ("mps", 0, "Apple"),
        ("foo", 2, "'foo' is no device. Choose auto, cpu, cuda, cuda:N"),
        ("cuda:x", 2, "is no device"),
        ("cuda:", 2, "is no device"),
        ("meta", 2, "is no device"),
        ("", 2, "'' is no device"),
    ],
)
def test_others_are_refused_with_the_remedy(gpus, name, number, told):
    gpus(number)
    with pytest.raises(PalateError) as refused:
        parse_device(name)
    assert told in str(refused.value)
