"""``palate summarise`` as a person meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
from flaky_server import FlakyServer, running
from PIL import Image
from summary_helpers import lines
from worlds import walking_shop

from palate.data.dataset import Dataset
from palate.data.sample import sample_users
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.mllm.backends import BACKENDS
from palate.mllm.backends.options import PictureBackendOptions
from palate.mllm.summaries.items import ItemSummaries

pytest.importorskip("openai")
BUILT_IN = ("embedded", "local", "openai", "vllm")
GOOD = "Likes warm colours and plain, hand-made things."
Palate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six users and thirty items, of which two have a picture."""
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (20, 20), (200, 0, 9)).save(tmp_path / f"pictures/{name}.png")
    dataset = walking_shop(image=["a.png", "b.png", *[None] * 28])
    object.__setattr__(dataset.catalogue, "pictures", tmp_path / "pictures")
    dataset.save(tmp_path / "data")
    return tmp_path / "data"


def server_words(server: FlakyServer) -> list[str]:
    return ["--backend", "openai", "--model", "org/tiny", "--base-url", server.url]


def test_users(palate: Palate, data: Path) -> None:
    with running(FlakyServer(lambda _: GOOD)) as server:
        words = ["summarise", "users", data, *server_words(server), "--as-of", "test,valid"]
        code, out, _ = palate(*words, "--dry-run")
        assert code == 0
        assert "18 texts are missing" in out
        assert not (data / "summaries").exists()
        assert not server.payloads
        code, out, err = palate(*words)
        assert (code, err) == (0, "")
        assert "12 of 12 cut-offs of 6 users have a summary" in out
        assert "0 had one before; 18 texts are new." in out
        assert "Of 18 texts, 1 is distinct (5.6%); 0 repeat themselves (0.0%), 12 copy the prompt (66.7%)" in out
        assert "Cost of 1,000 users from nothing, by all runs of this store: 3,000 requests, 30,000 tokens read" in out
        folder = data / "summaries/users/org-tiny-recurrent"
        assert len(lines(folder)) == len(server.payloads) == 18
        code, out, _ = palate(*words, "--json")
        report = json.loads(out)
        assert code == 0
        assert (report["had"], report["written"], report["missing"], report["users"]) == (12, 0, 0, 6)
        code, out, _ = palate("info", folder)
        assert "summaries of users" in out
        assert GOOD in " ".join(out.split())


def test_a_limit_and_a_sample(palate: Palate, data: Path) -> None:
    with running(FlakyServer(lambda _: GOOD)) as server:
        words = ["summarise", "users", data, *server_words(server), "--as-of", "test", "--users", 2, "--seed", 5]
        code, out, _ = palate(*words, "--limit", 4)
        assert code == 0
        assert "1 are left for another run (--limit)." in out
        assert palate(*words)[0] == 0
        assert len(server.payloads) == 6


def test_items_that_a_sample_of_users_took(palate: Palate, data: Path) -> None:
    words = ["summarise", "items", data, "--source", "text", "--name", "few", "--users", 2, "--seed", 5]
    with running(FlakyServer(lambda _: GOOD)) as server:
        assert palate(*words, *server_words(server))[0] == 0
    dataset = Dataset.load(data)
    taken = set(Sequences(dataset.items, dataset.offsets).take(sample_users(dataset, 2, 5)).values.tolist())
    assert 0 < len(taken) < 30
    assert set(ItemSummaries.load(data / "summaries/items/few")) == {dataset.catalogue.ids[item] for item in taken}


def test_what_is_missing_is_told_and_the_exit_code_is_1(palate: Palate, data: Path) -> None:
    def refuse(_: object) -> tuple[int, dict[str, str], bytes]:
        return 422, {}, b'{"error": {"message": "too warm"}}'

    with running(FlakyServer(refuse)) as server:
        words = ["summarise", "users", data, *server_words(server), "--as-of", "test", "--strategy", "direct"]
        code, out, _ = palate(*words)
        assert code == 1
        assert "6 could not be had" in out
        assert "6 x the server answered 422" in out
        report = json.loads((data / "summaries/users/org-tiny-direct/missing.json").read_text())
        assert [row["user"] for row in report["missing"]] == [f"u{n}" for n in range(6)]
        code, out, _ = palate(*words, "--json")
        assert code == 1
        assert json.loads(out)["reasons"] == {"the server answered 422": 6}


def test_items_and_users_who_read_of_them(palate: Palate, data: Path) -> None:
    with running(FlakyServer(lambda _: "It shows a red square on nothing.")) as server:
        code, out, _ = palate("summarise", "items", data, *server_words(server))
        assert code == 0
        assert "2 of 2 items have a summary" in out
        assert "28 items without a picture were left out." in out
        assert len(ItemSummaries.load(data / "summaries/items/org-tiny-picture")) == 2
        words = ["--item-summaries", "org-tiny-picture", "--as-of", "test", "--name", "with"]
        assert palate("summarise", "users", data, *server_words(server), *words)[0] == 0
        assert any("a red square" in json.dumps(payload) for payload in server.payloads[2:])


def test_a_recipe_names_the_table_of_the_nested_command(palate: Palate, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[summarise.users]\nbackend = "openai"\nmodel = "m"\nas-of = ["test"]\nblock = 4\nname = "four"\nusers = 3\n'
    )
    with running(FlakyServer(lambda _: GOOD)) as server:
        words = ["summarise", "users", data, "--config", recipe, "--base-url", server.url, "--json"]
        code, out, err = palate(*words)
        assert (code, err) == (0, "")
        assert json.loads(out)["written"] == 6
    facts = json.loads((data / "summaries/users/four/summaries.json").read_text())
    assert facts["made"]["block"] == 4
    code, _, err = palate("summarise", "items", data, "--config", recipe)
    assert code == 2
    assert "has no table [summarise.items]" in err


def test_a_local_model_writes(palate: Palate, data: Path, tiny: Callable[[str], Path]) -> None:
    """A random model writes nonsense; what of it is refused is told, and what is not is kept."""
    words = ["summarise", "users", data, "--backend", "local", "--model", tiny("llama"), "--as-of", "test"]
    code, out, _ = palate(*words, "--users", 2, "--max-new-tokens", 6, "--json")
    report = json.loads(out)
    assert code == (1 if report["missing"] else 0)
    assert report["cost"]["requests"] == report["written"] + report["cost"]["failed"] > 0
    assert report["cost"]["prompt_tokens"] > 0
    assert len(lines(data / "summaries/users/llama-recurrent")) == report["written"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["users", "--as-of", "tset"], "Did you mean 'test'"),
        (["users", "--as-of", ","], "no user has a history before a cut-off"),
        (["users", "--strategy", "recurent"], "'strategy'"),
        (["users", "--strategy", "none"], "writes nothing"),
        (["users", "--name", "../x"], "is no name for a folder"),
        (["users", "--item-summaries", "gone"], "summaries/items/gone holds no summaries"),
        (["users", "--backend", "opena"], "Did you mean 'openai'"),
        (["users", "--fields", "colour"], "has no field 'colour'"),
        (["items", "--source", "sound"], "'source'"),
        (["items", "--prompts", "gone"], "the folder of prompts gone does not exist"),
    ],
)
def test_mistakes_are_told_before_any_work(palate: Palate, data: Path, words: list[str], expected: str) -> None:
    backend = (
        [] if "--backend" in words else ["--backend", "openai", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]
    )
    code, _, err = palate("summarise", words[0], data, *backend, *words[1:])
    assert code == 2
    assert expected in err
    assert not (data / "summaries").exists()


def test_what_is_given_reaches_the_backend(palate: Palate, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, object]] = []

    def note(name: str, model: str | None, **options: object) -> None:
        opened.append({"name": name, "model": model} | {key: value for key, value in options.items() if value})
        raise PalateError("enough is known")

    monkeypatch.setattr("palate.mllm.backends.workers.open_backend", note)
    words = ["--model", "m", "--attempts", 3, "--temperature", 0.5, "--seed", 7, "--no-repeat-ngram-size", 4]
    words += ["--chat-template-kwargs", '{"enable_thinking": false}', "--trust-remote-code", "--batch-size", 2]
    for what, more in (("items", ["--longest", 64]), ("users", [])):
        assert "enough is known" in palate("summarise", what, data, "--backend", "local", *words, *more)[2]
    seen: dict[str, object] = {"name": "local", "model": "m", "attempts": 3, "temperature": 0.5, "seed": 7}
    seen |= {"no_repeat_ngram_size": 4, "batch_size": 2, "trust_remote_code": True}
    seen["chat_template_kwargs"] = {"enable_thinking": False}
    assert opened == [{**seen, "longest": 64}, seen]


def test_a_backend_has_each_option_that_is_offered() -> None:
    taken = {option for name in BUILT_IN for option in signature(BACKENDS[name]).parameters}
    assert set(PictureBackendOptions.model_fields) <= taken
