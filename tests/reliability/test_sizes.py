"""Rankers of impossible sizes are refused before they are made, and those of possible ones are counted rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.registry import RANKERS
from palate.training import size
from palate.training.fit import train


@pytest.mark.parametrize(
    "ranker",
    [
        {"dim": 1e9},
        {"dim": 10**15},
        {"layers": 10**6},
        {"layers": 10**6, "dim": 2, "heads": 1},
        {"hidden": 1e9},
        {"max_length": 10**10},
        {"time_buckets": 10**12},
        {"ffn": "moe", "experts": 10**8},
    ],
)
@pytest.mark.parametrize("model", ["sasrec", "gru4rec", "hstu"])
def test_refused_before_any_work(data: Dataset, tmp_path: Path, model: str, ranker: dict[str, Any]) -> None:
    known = RANKERS[model].Config.model_fields
    if not set(ranker) <= set(known) or (model == "gru4rec" and "max_length" in ranker):  # it has no positions
        pytest.skip("not a setting of this model that makes it large")
    with pytest.raises(PalateError) as raised:
        train(data, model=model, out=tmp_path / "run", settings={"ranker": ranker})
    name = next(iter({**ranker} if "ffn" not in ranker else {"experts": 0}))
    assert f"ranker.{name}=" in str(raised.value)
    assert "Lower these sizes." in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "layers"), [("sasrec", 0), ("sasrec", 5), ("gru4rec", 1), ("gru4rec", 4), ("hstu", 3)]
)
def test_the_estimate_is_the_number_of_parameters(model: str, layers: int) -> None:
    kind = RANKERS[model]
    config = kind.Config(dim=8, layers=layers, modalities=("id", "text"), repeat_bias=True)
    state = torch.get_rng_state()
    found = size.size_of(kind, config, 20, {"text": 6})
    assert torch.equal(torch.get_rng_state(), state)
    sizes = [parameter.numel() for parameter in kind(config, 20, {"text": 6}).parameters()]
    assert found == size.Size(sum(sizes), len(sizes))


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit").write_text("1000000\n")
    monkeypatch.setattr(size, "_CGROUP", tmp_path / "limit")
    assert size.memory_of("cpu") == 10**6
    kind = RANKERS["sasrec"]
    with pytest.raises(PalateError, match=r"device has 0\.0 GiB"):
        size.check_size(kind, kind.Config(), 10, {}, "cpu")
    (tmp_path / "limit").write_text("max\n")
    whole = size.memory_of("cpu")
    assert whole is None or whole > 10**8


def test_a_model_that_needs_numbers_to_be_made_is_let_through() -> None:
    class Peculiar(RANKERS["sasrec"]):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.scale = float(next(self.parameters()).detach().mean())

    size.check_size(Peculiar, Peculiar.Config(dim=4), 5, {}, "cpu")
