"""The local backend on tiny random models: batches, chains, ends, temperature, memory, and what fails alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.errors import PalateError
from palate.mllm.backends import open_backend
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.decoding import NoRepeatNgram, Sampling, end_tokens, generator
from palate.mllm.backends.local import LocalBackend
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.lm.reasoning import answer_text
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.summaries.work import check_summary

pytest.importorskip("transformers")
Tiny = Callable[[str], Path]
FAMILIES = ("llama", "llava", "qwen2.5-vl", "qwen3-vl", "smolvlm", "idefics3")


@pytest.fixture(scope="module")
def models(tiny: Tiny) -> Callable[[str], ChatModel]:
    opened: dict[str, ChatModel] = {}

    def of(family: str) -> ChatModel:
        if family not in opened:
            opened[family] = open_model(str(tiny(family)))
        return opened[family]

    return of


Models = Callable[[str], ChatModel]


def requests(number: int = 7, pictures: bool = False, new: int = 10) -> list[ModelRequest]:
    """Prompts of very different lengths, every other one with a picture."""
    made = []
    for one in range(number):
        seen = [Picture(None)] if pictures and one % 2 else []
        made.append(ModelRequest(f"r{one}", Chat(("Look " * (one * one + 1), *seen), "S" if one % 3 else None), new))
    return made


def run(backend: LocalBackend, some: Iterable[ModelRequest], check: Any = None) -> dict[str, Reply]:
    found: dict[str, Reply] = {}

    def done(reply: Reply) -> list[ModelRequest]:
        assert reply.key not in found
        found[reply.key] = reply
        return []

    backend.work(some, done, check)
    return found


def texts(found: dict[str, Reply]) -> dict[str, str | None]:
    return {key: found[key].text for key in sorted(found)}


class Spy:
    """Counts what goes through ``generate``; optionally runs out of memory above a number of rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: ChatModel, room: int = 1000) -> None:
        self.rows: list[int] = []
        self.widths: list[int] = []
        self.room = room
        real = model.core.generate

        def generate(**inputs: Any) -> Any:
            rows, width = inputs["input_ids"].shape
            self.rows.append(rows)
            self.widths.append(width)
            if rows > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB")
            return real(**inputs)

        monkeypatch.setattr(model.core, "generate", generate)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_do_not_depend_on_their_batch(models: Models, family: str) -> None:
    some = requests(pictures=family != "llama")
    alone = run(LocalBackend(models(family), batch_size=1), some)
    together = run(LocalBackend(models(family), batch_size=7), some)
    turned = run(LocalBackend(models(family), batch_size=3), reversed(some))
    assert texts(alone) == texts(together) == texts(turned)
    assert len(set(texts(alone).values())) > 3
    for request in some:
        reply = alone[request.key]
        assert reply.prompt_tokens == len(models(family).encode(request.chat))
        assert 1 <= reply.new_tokens <= 10
        assert reply.seconds > 0
        assert (reply.attempts, reply.error) == (1, None)


def test_greedy_is_what_the_model_finds_likeliest_whatever_its_checkpoint_prefers(models: Models) -> None:
    model = models("llama")
    request = requests(3)[2]
    ids = model.encode(request.chat).ids[None]
    start = ids.shape[1]
    with torch.inference_mode():
        for _ in range(10):  # by hand
            ids = torch.cat([ids, model.core(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
            if ids[0, -1] in end_tokens(model):
                break
    expected = answer_text(model.tokenizer.decode(ids[0, start:], skip_special_tokens=True))
    habits = model.core.generation_config
    habits.repetition_penalty, habits.no_repeat_ngram_size = 5.0, 1
    try:
        reply = run(LocalBackend(model), [request])[request.key]
    finally:
        assert model.core.generation_config is habits  # put back
        habits.repetition_penalty, habits.no_repeat_ngram_size = None, None
    assert reply.text == expected
    assert reply.new_tokens == ids.shape[1] - start


def test_batches_are_of_similar_length_and_of_the_size_asked_for(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("llama")
    long, short = "word " * 150, "word"
    mixed = [ModelRequest(str(one), Chat((long if one % 2 else short,)), 3) for one in range(16)]
    spy = Spy(monkeypatch, model)
    assert len(run(LocalBackend(model, batch_size=4), mixed)) == 16
    assert spy.rows == [4] * 4
    assert len(set(spy.widths)) == 2  # short ones were never padded to the length of the long ones


def test_what_follows_enters_the_next_batch_without_waiting_for_all_others(models: Models) -> None:
    order: list[str] = []

    def done(reply: Reply) -> list[ModelRequest]:
        order.append(reply.key)
        user, step = reply.key.split("/")
        assert reply.text is not None
        return [ModelRequest(f"{user}/{int(step) + 1}", Chat((f"{user} {reply.text}",)), 4)] if int(step) < 3 else []

    first = (ModelRequest(f"u{user}/1", Chat((f"user {user}",)), 4) for user in range(60))
    LocalBackend(models("llama"), batch_size=2).work(first, done)
    assert len(order) == len(set(order)) == 180
    assert order.index("u0/3") < order.index("u59/1")
    for user in range(60):
        places = [order.index(f"u{user}/{step}") for step in (1, 2, 3)]
        assert places == sorted(places)


def test_requests_are_drawn_as_needed_not_all_at_once(models: Models) -> None:
    drawn: list[int] = []

    def endless() -> Iterable[ModelRequest]:
        for number in range(10_000):
            drawn.append(number)
            yield ModelRequest(str(number), Chat(("a",)), 1)

    class Enough(Exception):
        pass

    def done(reply: Reply) -> list[ModelRequest]:
        raise Enough

    with pytest.raises(Enough):
        LocalBackend(models("llama"), batch_size=2).work(endless(), done)
    assert len(drawn) <= 50


def test_it_stops_at_any_end_token_and_writes_none(models: Models) -> None:
    model = models("llama")
    some = requests(6, new=30)
    plain = run(LocalBackend(model), some)
    encoded = {request.key: model.encode(request.chat) for request in some}
    with torch.inference_mode():
        first_of = {
            key: int(model.core(input_ids=one.ids[None]).logits[0, -1].argmax()) for key, one in encoded.items()
        }
    backend = LocalBackend(model)
    chosen = first_of["r0"]
    backend._ends = [*backend._ends, chosen]
    ended = run(backend, some, check=lambda text: None)
    assert ended["r0"].new_tokens == 1
    for key, reply in ended.items():
        assert reply.new_tokens <= plain[key].new_tokens
        if first_of[key] == chosen:
            assert reply.new_tokens == 1


def test_end_tokens_come_from_the_chat_template_too(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    turn = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.core.generation_config.eos_token_id = [0, 5]
    model.tokenizer.eos_token = "<|endoftext|>"  # as in checkpoints that forgot about chats
    assert set(end_tokens(model)) == {0, 5, turn}
    model.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} and so on{% endfor %}"
    model = ChatModel(model.name, model.model, model.tokenizer, fingerprint="")
    assert turn not in end_tokens(model)


def test_a_temperature_draws_from_the_models_own_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = 4000
    for temperature in (0.5, 1.0, 2.0):
        rows = Sampling(temperature, [generator(0, str(one)) for one in range(draws)])
        picked = rows(torch.empty(draws, 0), logits.repeat(draws, 1)).argmax(-1).tolist()
        counts = Counter(picked)
        for token, probability in enumerate((logits / temperature).softmax(0).tolist()):
            spread = (probability * (1 - probability) / draws) ** 0.5
            assert abs(counts[token] / draws - probability) < 5 * spread


def test_a_temperature_is_repeatable_whoever_shares_the_batch(models: Models) -> None:
    model = models("llama")
    some = requests()
    one = run(LocalBackend(model, batch_size=1, temperature=1.0, seed=1), some)
    many = run(LocalBackend(model, batch_size=7, temperature=1.0, seed=1), reversed(some))
    other = run(LocalBackend(model, batch_size=7, temperature=1.0, seed=2), some)
    assert texts(one) == texts(many)
    assert texts(one) != texts(other)
    assert texts(one) != texts(run(LocalBackend(model), some))
    same = [ModelRequest(key, Chat(("Look",)), 10) for key in "abcd"]
    assert len(set(texts(run(LocalBackend(model, temperature=1.0), same)).values())) == 4


def test_sampling_is_part_of_the_identity(models: Models) -> None:
    model = models("llama")
    greedy, drawn = LocalBackend(model, seed=3).identity, LocalBackend(model, temperature=0.5, seed=3).identity
    assert "seed" not in greedy
    assert (drawn["temperature"], drawn["seed"]) == (0.5, 3)
    assert greedy["fingerprint"] == model.fingerprint
    assert greedy == LocalBackend(model, batch_size=1, seed=4).identity  # neither batches nor an idle seed matter
    assert "/" not in greedy["model"]  # a folder may move


def test_precision_is_part_of_the_identity(tiny: Tiny) -> None:
    options = [ModelOptions(name=str(tiny("llama")), dtype=one) for one in ("float32", "bfloat16")]
    exact, rough = (LocalBackend(open_model(one)) for one in options)
    assert (exact.identity["dtype"], rough.identity["dtype"]) == ("float32", "bfloat16")
    assert {**exact.identity, "dtype": 0} == {**rough.identity, "dtype": 0}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")
def test_an_adapter_makes_another_identity(tiny: Tiny) -> None:
    peft = pytest.importorskip("peft")

    def adapted(seed: int) -> dict[str, Any]:
        model = open_model(str(tiny("llama")))
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.model = peft.get_peft_model(model.core, config)
        it = LocalBackend(model)
        reply = run(it, requests(1))["r0"]
        return {**it.identity, "text": reply.text}

    one, same, other = adapted(1), adapted(1), adapted(2)
    assert one == same
    assert one["adapter"] != other["adapter"]
    assert one["fingerprint"] == other["fingerprint"]
    assert one["text"] != other["text"]


def test_refused_greedy_answers_are_asked_for_again_under_the_brake(models: Models) -> None:
    model = models("llama")
    some = requests(5, new=24)
    first = texts(run(LocalBackend(model), some))
    asked: dict[str, int] = Counter()

    def check(text: str) -> str | None:
        asked[text] += 1
        return "I have seen this" if text in first.values() else None

    again = run(LocalBackend(model, batch_size=2), some, check)
    assert {reply.attempts for reply in again.values()} == {2}
    for key, reply in again.items():
        assert reply.text is not None
        assert reply.text != first[key]
        assert reply.prompt_tokens == 2 * len(model.encode(next(one for one in some if one.key == key).chat))
    assert again.keys() == first.keys()

    never = run(LocalBackend(model), some, lambda text: "too red")
    assert all(reply.text is None and reply.attempts == 2 for reply in never.values())
    assert "no usable answer in 2 attempts (too red)" in str(never["r0"].error)


def test_the_brake_forbids_repeating_oneself_but_not_the_prompt() -> None:
    brake = NoRepeatNgram(prompt=3, ends=[0])
    logits = torch.zeros(2, 10)
    # Prompt 7 8 9; written: 1 2 3 1 2 -> not 3 again. The second row: 7 8 -> 9 stands in the prompt only.
    out = brake(torch.tensor([[7, 8, 9, 1, 2, 3, 1, 2], [7, 8, 9, 4, 5, 6, 7, 8]]), logits)
    assert out[0].isinf().nonzero().flatten().tolist() == [3]
    assert not out[1].isinf().any()
    early = NoRepeatNgram(prompt=3, ends=[0], shortest=4)(torch.tensor([[7, 8, 9, 1]]), torch.zeros(1, 10))
    assert early[0].isinf().nonzero().flatten().tolist() == [0]
    assert not logits.isinf().any()


def test_no_run_of_tokens_comes_twice_on_request_and_the_answers_are_known_by_it(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models("llama")
    written: list[list[int]] = []
    real = model.core.generate

    def generate(**inputs: Any) -> Any:
        out = real(**inputs)
        written.extend(out[:, inputs["input_ids"].shape[1] :].tolist())
        return out

    def repeats(backend: LocalBackend) -> int:
        written.clear()
        run(backend, requests(4, new=40))
        ends = end_tokens(model)
        answers = [[token for token in row if token not in ends] for row in written]
        return sum(len(list(pairwise(row))) - len(set(pairwise(row))) for row in answers)

    monkeypatch.setattr(model.core, "generate", generate)
    assert repeats(LocalBackend(model)) > 0
    assert repeats(LocalBackend(model, no_repeat_ngram_size=2)) == 0
    assert repeats(LocalBackend(model, no_repeat_ngram_size=2, temperature=0.2)) == 0
    assert LocalBackend(model, no_repeat_ngram_size=2).identity["no_repeat_ngram_size"] == 2
    assert "no_repeat_ngram_size" not in LocalBackend(model).identity, "stores made before it stay valid"
    for wrong in (1, -2):
        with pytest.raises(PalateError, match=f"may not be repeated is {wrong}"):
            LocalBackend(model, no_repeat_ngram_size=wrong)


def test_memory_that_runs_out_halves_the_batches_and_says_so(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llama")
    some = requests(12, new=4)
    expected = texts(run(LocalBackend(model), some))
    spy = Spy(monkeypatch, model, room=2)
    backend = LocalBackend(model, batch_size=8)
    with pytest.warns(UserWarning, match="Memory ran out") as warned:
        found = run(backend, some)
    assert [str(one.message).partition(" with ")[2] for one in warned] == [
        "8 prompts at a time; going on with 4.", "4 prompts at a time; going on with 2.",
    ]  # fmt: skip
    assert texts(found) == expected
    assert backend.batch_size == 2
    assert spy.rows[:3] == [8, 4, 2]
    assert set(spy.rows[2:]) == {2}


def test_memory_that_is_too_small_for_a_single_prompt(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llama")
    spy = Spy(monkeypatch, model, room=0)
    backend = LocalBackend(model, batch_size=1)
    with pytest.raises(PalateError, match=r"memory ran out on a single prompt of \d+ tokens.*quantised"):
        run(backend, requests(3))
    spy.room = 1000
    backend = LocalBackend(model, batch_size=1)
    found: dict[str, Reply] = {}

    def done(reply: Reply) -> list[ModelRequest]:
        found[reply.key] = reply
        spy.room = 0 if len(found) == 1 else 1000  # the second one is too much
        return []

    backend.work(requests(3), done)
    assert [key for key, reply in found.items() if reply.text is None] == ["r1"]


def test_other_errors_of_the_model_are_not_taken_for_memory(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models("llama")

    def generate(**inputs: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(model.core, "generate", generate)
    with pytest.raises(RuntimeError, match="shapes"):
        run(LocalBackend(model), requests(2))


def test_pictures_that_cannot_be_opened_fail_alone(models: Models, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    some = [
        *requests(3, pictures=True),
        ModelRequest("broken", Chat(("Look", Picture(broken))), 5),
        ModelRequest("gone", Chat(("Look", Picture(tmp_path / "gone.png"))), 5),
    ]
    found = run(LocalBackend(models("llava")), some)
    assert {key for key, reply in found.items() if reply.text is None} == {"broken", "gone"}
    assert "broken.png" in str(found["broken"].error)
    assert "gone.png does not exist" in str(found["gone"].error)
    assert found["gone"].attempts == 0


def test_models_without_eyes_refuse_pictures_and_long_prompts_fail_alone(models: Models) -> None:
    some = [
        *requests(2),
        ModelRequest("seen", Chat(("Look", Picture(None))), 5),
        ModelRequest("long", Chat(("Look " * 3000,)), 5),
        ModelRequest("longer", Chat(("Look",)), 1020),
    ]
    found = run(LocalBackend(models("llama")), some)
    assert {key for key, reply in found.items() if reply.text is None} == {"seen", "long", "longer"}
    assert "takes no pictures" in str(found["seen"].error)
    assert "do not fit into the 1024" in str(found["long"].error)
    assert "1020 new ones" in str(found["longer"].error)


def test_the_model_is_left_as_it_was_found(models: Models) -> None:
    model = models("llama")
    model.model.train()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is said about options that do not fit together
            run(LocalBackend(model), requests(2))
        assert model.model.training
    finally:
        model.model.eval()


def test_options_out_of_range_and_models_without_template(tiny: Tiny, models: Models) -> None:
    for options in ({"batch_size": 0}, {"temperature": -0.1}, {"temperature": float("nan")}):
        with pytest.raises(PalateError):
            LocalBackend(models("llama"), **options)
    mute = open_model(str(tiny("llama")))
    mute.tokenizer.chat_template = None
    with pytest.raises(PalateError, match="no chat template"):
        LocalBackend(mute)


def test_open_backend_opens_a_folder(tiny: Tiny) -> None:
    backend = open_backend("local", str(tiny("llama")), batch_size=3, dtype="bfloat16", attempts=1)
    assert isinstance(backend, LocalBackend)
    assert (backend.batch_size, backend.attempts) == (3, 1)
    assert backend.model.core.dtype == torch.bfloat16
    assert all(reply.text for reply in run(backend, requests(2)).values())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("Mug.", "a single word"),
        ("12.5 % 99 + 31 = 4 ??? --- 77", "mostly not letters"),
        ("<!DOCTYPE html><p>Gateway timed out, please try again later</p>", "web page"),
        ("  <html>\n<body>some page", "web page"),
        ('{"error": "model is overloaded, please wait"}', "JSON"),
        ('```json\n["likes", "red", "mugs"]\n```', "JSON"),
        ("likes red mugs " * 30, "over and over"),
        ("The user likes films. " + "He also likes comedy and he also likes drama and " * 12, "over and over"),
        ("mug mug mug mug mug mug mug mug mug", "over and over"),
        ("喜欢红色的杯子" * 12, "over and over"),
        ("Likes red mugs.<|im_end|>\n<|im_start|>user", "chat template"),
        ("[INST] Summarise this please [/INST] Likes red", "chat template"),
        ("Likes red mugs a lot </s>", "chat template"),
        ("### Assistant: likes red mugs", "chat template"),
        ("<think>the user likes red mugs so I should", "chat template"),
        ("likes \ufffd\ufffd red \ufffd\ufffd mugs \ufffd and tea", "broken"),
    ],
)  # fmt: skip
def test_useless_summaries_are_refused(text: str, reason: str) -> None:
    found = check_summary(text)
    assert found is not None
    assert reason in found
    assert len(found) < 100


@pytest.mark.parametrize(
    "text",
    [
        "Dress. Black.",
        "Likes warm colours.",
        "Prefers 1990s action films (GoldenEye, 1995; Heat, 1995) and Disney: 5 of 8 are animated.",
        "Mag warme Farben, schlichte Formen & Handgemachtes.",
        "喜欢暖色调和手工制作的杯子，偏爱简单的造型。",
        "Любит тёплые цвета и простые формы.",
        "ชอบสีอบอุ่นและของทำมือ",
        "The user likes comedy. The user likes drama. The user likes films with a strong lead. The user also enjoys "
        "animated family films, and prefers bright posters with large lettering over dark ones.",
        "- likes mugs\n- likes tea\n- likes rain",
        "The poster shows <b>two men</b> and a [red] car {sic}; x < 3.",
    ],
)
def test_summaries_that_may_be_plain_but_are_summaries_pass(text: str) -> None:
    assert check_summary(text) is None


def test_thoughts_are_not_answers() -> None:
    assert answer_text("<think>\nHmm.\n</think>\n\n Likes tea. ") == "Likes tea."
    assert answer_text("Likes <think>tea</think>.") == "Likes <think>tea</think>."
