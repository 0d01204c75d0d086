"""Many users against a server that fails a third of all calls: all are written, or it says exactly what is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from flaky_server import FAILURES, FlakyServer, Payload, no_waits, prompt_of, running
from summary_helpers import lines

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.mllm.backends.openai import OpenAIBackend
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.mllm.prompts.templates import Templates
from palate.mllm.summaries.report import SummaryReport
from palate.mllm.summaries.steps import SummarySteps, UserOptions
from palate.mllm.summaries.users import UserWork, cut_offs

pytest.importorskip("openai")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    no_waits(monkeypatch)


def people(number: int) -> Dataset:
    """Users who share nothing: seven items each, all of their own, so three steps a test case."""
    log = pl.DataFrame(
        [(f"u{user}", f"i{user}-{step}", step * 10 + user) for user in range(number) for step in range(7)],
        schema=["user", "item", "timestamp"],
        orient="row",
    )
    return from_frames(log, timestamp="timestamp", name="people", keep_unseen=True)


def answer(payload: Payload) -> str:
    """A sentence that no other prompt gets."""
    name = hashlib.sha256(prompt_of(payload).encode()).hexdigest().translate(str.maketrans("0123456789", "ghijklmnop"))
    return f"Likes what {name} stands for."


def summarise(data: Dataset, server: FlakyServer, folder: Path, **options: Any) -> SummaryReport:
    backend = OpenAIBackend(
        "tiny", base_url=server.url, **{"timeout": 4.0, "concurrency": 16, "attempts": 6, **options}
    )
    summary_steps = SummarySteps(
        SummaryPrompts(Items.of(data.catalogue), Templates.load()), UserOptions(), backend.identity
    )
    work = UserWork(summary_steps, cut_offs(data, ("test",)), data.user_ids.to_list())
    return work.write(folder, backend, progress=False)


def check_texts(data: Dataset, folder: Path) -> None:
    """Every text is the answer to its own question, down its whole chain."""
    rows = {row["key"]: row for row in map(json.loads, lines(folder))}
    prompts = SummaryPrompts(Items.of(data.catalogue), Templates.load())
    index = data.catalogue.index
    for row in rows.values():
        block = [index[item] for item in row["items"]]
        chat = prompts.first(block) if row["after"] is None else prompts.next(block, rows[row["after"]]["text"])
        assert row["text"] == answer({"messages": [{"content": chat.text}]})


def prove(users: int, folder: Path, seed: int) -> None:
    data = people(users)
    # Every failure there is; stalls more rarely, since each costs its client four seconds.
    kinds = (*(name for name in FAILURES if name != "stall"),) * 3 + ("stall",)
    with running(FlakyServer(answer, share=0.3, seed=seed, failures=kinds)) as server:
        report = summarise(data, server, folder, attempts=3)
        assert set(server.failed) == set(FAILURES), "the server has done its worst"
        # Three attempts at 30% leave a few chains broken, and each of them is named.
        assert report.missing
        assert report.requested == users
        done = {row["key"] for row in map(json.loads, lines(folder))}
        assert len(done) == report.written
        missing = json.loads((folder / "missing.json").read_text())
        assert sum(missing["reasons"].values()) == len(missing["missing"]) == len(report.missing)
        assert report.cost.failed == report.cost.requests - report.written
        check_texts(data, folder)
        without = {row["user"] for row in missing["missing"]}
        summary_steps = SummarySteps(
            SummaryPrompts(Items.of(data.catalogue), Templates.load()), UserOptions(), report_identity(folder)
        )
        for one in cut_offs(data, ("test",)):
            last = summary_steps.of(one.history.tolist())[-1].key
            assert (last not in done) == (data.user_ids[one.user] in without)
        before, requested = len(done), len(server.payloads)
        for _ in range(8):  # the same command again, until nothing is missing
            if not report.missing:
                break
            report = summarise(data, server, folder)
        assert not report.missing
        assert not (folder / "missing.json").exists()
        assert len(lines(folder)) == 2 * users
        assert len(server.payloads) - requested < 6 * (2 * users - before), "what was there was not asked for again"
        check_texts(data, folder)


def report_identity(folder: Path) -> dict[str, Any]:
    identity: dict[str, Any] = json.loads((folder / "summaries.json").read_text())["made"]["backend"]
    return identity


def test_a_hundred_users_and_a_flaky_server(tmp_path: Path) -> None:
    prove(100, tmp_path / "s", seed=1)


@pytest.mark.slow
def test_a_thousand_users_and_a_flaky_server(tmp_path: Path) -> None:
    prove(1000, tmp_path / "s", seed=2)


def test_a_server_that_only_ever_fails_some_is_told_of_exactly(tmp_path: Path) -> None:
    """Questions about the items of two users are refused for good; everybody else is finished at once."""
    data = people(30)

    def refuse(payload: Payload) -> str | tuple[int, dict[str, str], bytes]:
        if "i7-0" in prompt_of(payload) or "i9-5" in prompt_of(payload):
            return 400, {}, b'{"error": {"message": "this cannot be asked"}}'
        return answer(payload)

    with running(FlakyServer(refuse)) as server:
        report = summarise(data, server, tmp_path / "s")
    assert {one.what["user"] for one in report.missing} == {"u7", "u9"}
    assert report.reasons == {"the server answered 400": 2}
    assert all("this cannot be asked" in one.error for one in report.missing)
    assert report.written == 2 * 30 - 2 - 1
