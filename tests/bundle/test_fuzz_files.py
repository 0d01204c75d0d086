"""Datasets, feature stores, runs and bundles of which one file is wrong, under right hashes where there are any.

Each is either answered from, with numbers, or refused in one sentence.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from mutations import mutations

from palate.bundle.manifest import CARD, NAME, write_manifest
from palate.runs.run import Run
from palate.storage.files import read_json

Palate = Callable[..., tuple[int, str, str]]
FEW = 40
MANY = int(os.environ.get("PALATE_FUZZ_FILES", "1500"))  # of some thousand


@pytest.fixture(scope="module")
def artefacts(films: Path, full_run: Run, full_bundle: Path, popular_run: Run) -> dict[str, Path]:
    return {"dataset": films, "run": full_run.folder, "bundle": full_bundle, "popular": popular_run.folder}


def no_number(constant: str) -> None:
    raise AssertionError(f"{constant} in an answer")


def files_of(folder: Path) -> list[Path]:
    """Those that Palate reads; of pictures and alike ones there is nothing to change."""
    kinds = (".json", ".jsonl", ".safetensors", ".npy", ".parquet")
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.suffix in kinds]


def all_changes(artefacts: dict[str, Path]) -> list[tuple[str, Path, int]]:
    return [
        (kind, name, number)
        for kind, folder in artefacts.items()
        for name in files_of(folder)
        for number, _ in enumerate(mutations(folder / name))
    ]


def try_one(
    palate: Palate, artefacts: dict[str, Path], kind: str, name: Path, number: int, place: Path
) -> tuple[str, int]:  # fmt: skip
    """Change a file of a copy, and look at the artefact and let it answer: what was changed, and the exit code."""
    folder = Path(shutil.copytree(artefacts[kind], place / kind))
    what, change = list(mutations(folder / name))[number]
    change(folder / name)
    if kind == "bundle" and name.name not in (NAME, CARD):
        write_manifest(folder, read_json(artefacts[kind] / NAME))
    calls: list[list[object]] = [["info", folder]]
    if kind == "dataset":
        calls.append(["recommend", artefacts["run"], "--user", "u1", "--dataset", folder, "--json"])
        if "features" in name.parts:
            calls.append(["neighbours", folder, "space-1"])
    else:
        calls.append(["recommend", folder, "--history", "space-1,space-2", "--json"])
    worst = 0
    for call in calls:
        code, out, err = palate(*call)
        told = f"{kind}/{name}: {what}: {call[0]}"
        assert code in (0, 2), (told, err)
        assert "Traceback" not in err, (told, err)
        if code:
            assert err.startswith(("Error: ", '{"error": ')), (told, err)
            assert len(err) < 1500, (told, err)
            assert len(err.strip().splitlines()) == 1, (told, err)
        elif call[-1] == "--json":
            json.loads(out, parse_constant=no_number)
        worst = max(worst, code)
    shutil.rmtree(folder)
    return what, worst


def test_some_wrong_files(palate: Palate, artefacts: dict[str, Path], tmp_path: Path) -> None:
    counts: Counter[int] = Counter()
    for kind, name, number in random.Random(0).sample(all_changes(artefacts), FEW):
        counts[try_one(palate, artefacts, kind, name, number, tmp_path)[1]] += 1
    assert counts[2] > FEW // 3


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_wrong_files(
    palate: Palate, artefacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    counts: Counter[int] = Counter()
    failed: list[str] = []
    changes = all_changes(artefacts)
    for kind, name, number in random.Random(1).sample(changes, min(MANY, len(changes))):
        try:
            counts[try_one(palate, artefacts, kind, name, number, tmp_path)[1]] += 1
        except (Exception, pytest.fail.Exception) as error:
            shutil.rmtree(tmp_path / kind, ignore_errors=True)
            failed.append(f"{kind}/{name}, change {number}: {type(error).__name__}: {str(error)[:300]}")
    with capsys.disabled():
        print(f"\n{counts.total()} wrong files: {counts[2]} refused, {counts[0]} harmless, {len(failed)} failed")
    assert not failed, "\n".join(failed[:20])
