"""What a worker of Ray refuses: for good, or until the workers before it have ended. Ray is not needed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.engines.ray_training import _raise_refusal, _work
from palate.engines.ray_worker import versions
from palate.errors import PalateError
from palate.storage.lock import FolderInUse, restarts


def test_a_folder_in_use_is_refused_at_first_and_tried_again_after_a_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    calls: list[int] = []

    def in_use() -> None:
        calls.append(restarts())
        raise FolderInUse("another process is at work", "Wait.")

    def attempt() -> None:
        _work(in_use, versions(), str(Path.cwd()), [], tmp_path)

    with pytest.raises(FolderInUse):
        attempt()
    with pytest.raises(PalateError, match="another process is at work"):
        _raise_refusal(tmp_path)
    attempt()  # refused for good: nothing is done
    assert calls == [0]
    (tmp_path / "refused.json").unlink()
    for number in (1, 2):
        with pytest.raises(FolderInUse):
            attempt()
        _raise_refusal(tmp_path)
        assert calls[-1] == number


def test_a_mistake_is_final_after_a_death_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    (tmp_path / "restarts.json").write_text("0")

    def refuse() -> None:
        raise PalateError("nothing can be trained", "Do something else.")

    with pytest.raises(PalateError):
        _work(refuse, versions(), str(Path.cwd()), [], tmp_path)
    with pytest.raises(PalateError, match="nothing can be trained"):
        _raise_refusal(tmp_path)
