"""Names of parts: whose they are, and that nobody takes another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from palate.errors import PalateError
from palate.negatives import NEGATIVES
from palate.negatives.config import NegativesConfig
from palate.registry import Registry

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package that has one metric."""

    def make(package: str, line: str) -> None:
        info = tmp_path / package / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[palate.metrics]\n{line}\n")
        monkeypatch.syspath_prepend(str(tmp_path / package))

    return make


@pytest.fixture
def metrics() -> Registry[object]:
    return Registry("metrics", {"pi": "math:pi"})


def test_a_part_of_the_process_may_be_replaced(metrics: Registry[object]) -> None:
    """A cell of a notebook is run again."""
    metrics.register("mine", len)
    metrics.register("mine", sum)
    assert list(metrics) == ["mine", "pi"]
    assert metrics["mine"] is sum


def test_a_part_may_be_registered_for_a_block(metrics: Registry[object]) -> None:
    metrics.register("mine", len)
    with metrics.registered("mine", sum), metrics.registered("other", max):
        assert metrics["mine"] is sum
    assert list(metrics) == ["mine", "pi"]
    assert metrics["mine"] is len


def test_the_name_of_a_built_in_part_is_taken(metrics: Registry[object]) -> None:
    with pytest.raises(PalateError, match=r"'builtins:len' takes the name of the built-in metric 'pi' \('math:pi'\)"):
        metrics.register("pi", len)
    assert metrics["pi"] == pytest.approx(3.14159, abs=1e-5)


def test_the_name_of_a_plug_in_is_taken(metrics: Registry[object], install: Install) -> None:
    install("acme", "e = math:e")
    with pytest.raises(PalateError, match=r"'cmath:e' takes the name of a plug-in's metric 'e' \('math:e'\)"):
        metrics.register("e", "cmath:e")


def test_two_plug_ins_of_one_name_are_refused(metrics: Registry[object], install: Install) -> None:
    install("acme", "e = math:e")
    install("other", "e = math:e")
    assert metrics["e"] == pytest.approx(2.71828, abs=1e-5)  # the same part twice
    install("third", "e = cmath:e")
    with pytest.raises(PalateError, match="the plug-ins 'cmath:e' and 'math:e' are both the metric 'e'"):
        metrics["e"]


def test_a_plug_in_that_cannot_be_loaded_does_not_stop_what_does_not_use_it() -> None:
    with NEGATIVES.registered("broken", "package_that_is_not_there:Strategy"):
        assert NegativesConfig(strategy="uniform", power=2.0).unread().keys() >= {"power"}


def test_entry_points_of_another_implementation_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package importlib_metadata is imported, its finder answers, with a class of its own."""
    point = SimpleNamespace(name="mine", value="acme:mine", load=lambda: sum)
    monkeypatch.setattr("palate.registry.entry_points", lambda group: [point])
    others: Registry[object] = Registry("others", {"pi": "math:pi"})
    assert list(others) == ["mine", "pi"]
    assert others["mine"] is sum
    with pytest.raises(PalateError, match="takes the name of a plug-in's other 'mine' \\('acme:mine'\\)"):
        others.register("mine", len)
