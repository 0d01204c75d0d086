"""The scores of answers: the short way equals the naive one, for every family, in fp32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tiny_llms import FAMILIES, METASPACE_FAMILIES, VISION_FAMILIES

from palate.errors import PalateError
from palate.mllm.lm.chat_model import IGNORED, ChatModel, Encoded
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.prompter import LETTERS
from palate.mllm.scoring.image_cache import ImageFeatureCache
from palate.mllm.scoring.prefix import _last_picture_token, share
from palate.mllm.scoring.scorer import Scorer

Tiny = Callable[[str], Path]
ANSWERS = ("Yes", "No")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Six pictures of different shapes and colours."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        Image.new("RGB", (60 + 14 * number, 60), (40 * number, 90, 250 - 40 * number)).save(folder / f"{number}.png")
    return [Picture(folder / f"{number}.png") for number in range(6)]


def _chats(kind: str, pictures: Sequence[Picture]) -> list[Chat]:
    """Prompts of one user: the same lead, then candidates of different lengths."""
    lead: tuple[str | Picture, ...] = ("history: the user bought a cream and a lipstick; ",)
    if kind in ("history", "both"):
        lead = (*lead, pictures[0], " and ", pictures[1], "\n")
    chats = []
    for number in range(4):
        words = f"item {'long ' * number}name. Would the user take it?"
        shown = kind in ("candidate", "both") and not (kind == "candidate" and number == 2)  # one has no picture
        chats.append(
            Chat((*lead, "candidate: ", pictures[2 + number], words) if shown else (*lead, "candidate: " + words))
        )
    return chats


@pytest.mark.parametrize("kind", ["none", "history", "candidate", "both"])
@pytest.mark.parametrize("family", FAMILIES)
def test_reading_the_lead_once_changes_nothing(tiny: Tiny, pictures: list[Picture], family: str, kind: str) -> None:
    if kind != "none" and family not in VISION_FAMILIES:
        pytest.skip("takes no pictures")
    model = open_model(str(tiny(family)))
    chats = _chats(kind, pictures)
    shared = share(model, chats)
    assert len(shared.prefix) > 16, "nothing would be saved"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a fall-back to the naive way would make this test pass for nothing
        short = Scorer(model).logits(chats, ANSWERS)
    naive = Scorer(model, reuse=False).logits(chats, ANSWERS)
    one_by_one = torch.cat([Scorer(model, reuse=False).logits([chat], ANSWERS) for chat in chats])
    assert short.dtype == torch.float32
    assert short.shape == (4, 2)
    torch.testing.assert_close(short, naive, atol=1e-3, rtol=0)
    torch.testing.assert_close(naive, one_by_one, atol=1e-3, rtol=0)
    assert len({round(float(value), 4) for value in short[:, 0]}) == 4, "the candidates are not told apart"


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_pictures_reach_the_score(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    scorer = Scorer(open_model(str(tiny(family))))
    lead = "history: the user bought a cream and a lipstick; candidate: "
    chats = [Chat((lead, picture, "Would the user take it?")) for picture in pictures[:3]]
    scores = scorer.log_odds(chats, *ANSWERS)
    assert (scores[0] - scores[1]).abs() > 1e-4
    assert (scores[1] - scores[2]).abs() > 1e-4


def test_remembered_pictures_are_the_right_ones(tiny: Tiny, pictures: list[Picture]) -> None:
    model = open_model(str(tiny("llava")))
    chats = _chats("both", pictures)
    scorer = Scorer(model, remember=True)
    fresh = Scorer(model).logits(chats, ANSWERS)
    torch.testing.assert_close(scorer.logits(chats, ANSWERS), fresh, atol=1e-5, rtol=0)
    torch.testing.assert_close(scorer.logits(chats[::-1], ANSWERS), fresh.flip(0), atol=1e-5, rtol=0)


def test_a_remembered_picture_is_looked_at_once(
    tiny: Tiny, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(tiny("llava")))
    looks = []
    real = model.core.model.get_image_features

    def counted(pixel_values: torch.Tensor, **options: object) -> object:
        looks.append(len(pixel_values))
        return real(pixel_values=pixel_values, **options)

    monkeypatch.setattr(model.core.model, "get_image_features", counted)
    scorer = Scorer(model, remember=True)
    for _ in range(2):
        scorer.logits(_chats("both", pictures), ANSWERS)
    assert sum(looks) == 6


def test_log_odds_are_the_models_own_in_fp32(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    chat = Chat(("Would the user take item A?",))
    text = model.render(chat)
    with torch.no_grad():
        logits = model.core(**model.collate([model.encode(chat)])).logits[0, -1]
    yes, no = (model.answer_ids(text, answer)[0] for answer in ANSWERS)
    torch.testing.assert_close(Scorer(model).log_odds([chat], *ANSWERS)[0], logits[yes] - logits[no])


def test_half_precision_does_not_tie(tiny: Tiny) -> None:
    model = open_model(ModelOptions(name=str(tiny("llama")), dtype="bfloat16"))
    chats = [Chat((f"history: bought a cream and a red lipstick; candidate: item {n}. Take it?",)) for n in range(40)]
    scores = Scorer(model).log_odds(chats, *ANSWERS)
    assert scores.dtype == torch.float32
    assert len(set(scores.tolist())) > 35


def test_answers_that_begin_alike_are_refused(tiny: Tiny) -> None:
    scorer = Scorer(open_model(str(tiny("llama"))))
    with pytest.raises(PalateError, match="begin with the same token"):
        scorer.logits([Chat(("Which?",))], ("A", "A"))


def test_a_family_that_cannot_share_falls_back_and_says_so(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(str(tiny("llama")))
    chats = _chats("none", [])
    scorer, naive = Scorer(model), Scorer(model, reuse=False).logits(chats, ANSWERS)
    for way in ("_packed", "_reusing"):
        monkeypatch.setattr(scorer, way, lambda shared, tokens: torch.full((len(shared.wholes), 2), 9.0))
    with pytest.warns(UserWarning, match="read as a whole instead"):
        found = scorer.logits(chats, ANSWERS)
    torch.testing.assert_close(found, naive)
    assert not scorer.reuse


def test_a_family_that_cannot_be_packed_shares_the_beginning(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(str(tiny("llama")))
    chats = _chats("none", [])
    scorer, naive = Scorer(model), Scorer(model, reuse=False).logits(chats, ANSWERS)
    calls: list[str] = []
    for way in ("_packed", "_reusing"):
        plain = getattr(scorer, way)

        def noted(shared: Any, tokens: torch.Tensor, name: str = way, plain: Any = plain) -> torch.Tensor:
            calls.append(name)
            return plain(shared, tokens) + (1.0 if name == "_packed" else 0.0) * torch.arange(2)

        monkeypatch.setattr(scorer, way, noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [scorer.logits(chats, ANSWERS) for _ in range(2)]
    assert calls == ["_packed", "_reusing", "_reusing"]
    for one in found:
        torch.testing.assert_close(one, naive)
    assert scorer.reuse


@pytest.mark.parametrize(("options", "limit"), [({"rows": 2}, 1024), ({}, 20)])
def test_prompts_too_many_or_too_long_for_a_row_share_the_beginning(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, options: dict[str, int], limit: int
) -> None:
    monkeypatch.setattr("palate.mllm.scoring.scorer._PACKED", limit)
    model = open_model(str(tiny("llama")))
    scorer = Scorer(model, **options)
    monkeypatch.setattr(scorer, "_packed", None)
    chats = _chats("none", [])
    torch.testing.assert_close(
        scorer.logits(chats, ANSWERS), Scorer(model, reuse=False).logits(chats, ANSWERS), atol=1e-4, rtol=0
    )


def test_costs_are_counted(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    chats = _chats("none", [])
    short, naive = Scorer(model), Scorer(model, reuse=False)
    for scorer in (short, naive):
        scorer.logits(chats, ANSWERS)
        scorer.logits(chats, ANSWERS)
    assert short.prompts == naive.prompts == 8
    assert naive.tokens == 2 * sum(len(model.encode(chat)) for chat in chats)
    # The first call also checks two prompts against the naive way.
    shared = share(model, chats)
    once = len(shared.prefix) + sum(len(rest) for rest in shared.rests)
    lengths = [len(whole) for whole in shared.wholes]
    assert short.tokens == 2 * once + min(lengths) + max(lengths)


def test_equal_prompts_are_read_once(tiny: Tiny, pictures: list[Picture]) -> None:
    model = open_model(str(tiny("llava")))
    first, second = _chats("both", pictures)[:2]
    once, repeated = Scorer(model), Scorer(model)
    expected = once.logits([first, second], ANSWERS)
    found = repeated.logits([first, second, first, Chat(first.parts)], ANSWERS)
    torch.testing.assert_close(found, expected[[0, 1, 0, 0]], atol=0, rtol=0)
    assert (repeated.prompts, repeated.tokens) == (4, once.tokens)


def test_training_mode_is_given_back(tiny: Tiny) -> None:
    model: ChatModel = open_model(str(tiny("llama")))
    model.model.train()
    Scorer(model).logits([Chat(("Which?",))], ANSWERS)
    assert model.model.training


@pytest.mark.parametrize("family", METASPACE_FAMILIES)
def test_a_tokenizer_that_writes_the_space_itself(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    """As in Llama 2, Mistral, LLaVA 1.5: ' Yes' and ' No' begin with the same blank piece, 'Yes' and 'No' do not."""
    model = open_model(str(tiny(family)))
    text = model.render(Chat(("Would the user take item A?",)))
    assert text.endswith("ASSISTANT:")
    blank = [model.tokenizer(f" {answer}", add_special_tokens=False)["input_ids"][0] for answer in ANSWERS]
    assert blank[0] == blank[1], "nothing is tested"
    for answer in (*ANSWERS, *LETTERS):
        assert model.tokenizer.convert_ids_to_tokens(model.answer_ids(text, answer)) == [f"\u2581{answer}"]
    chats = _chats("both" if family == "llava-1.5" else "none", pictures)
    short, naive = (Scorer(model, reuse=reuse).logits(chats, (*ANSWERS, *LETTERS)) for reuse in (True, False))
    torch.testing.assert_close(short, naive, atol=1e-3, rtol=0)
    batch = model.collate(
        [model.encode(chat, answer) for chat, answer in zip(chats, ANSWERS, strict=False)], labels=True
    )
    for labels, answer in zip(batch["labels"], ANSWERS, strict=True):
        learnt = model.tokenizer.convert_ids_to_tokens(labels[labels != IGNORED].tolist())
        assert learnt == [f"\u2581{answer}", "</s>"]


@pytest.mark.parametrize("kind", ["candidates", "history too", "all blank"])
@pytest.mark.parametrize("family", ["llava", "qwen2.5-vl", "smolvlm"])
def test_lists_in_several_orders_with_equal_pictures(
    tiny: Tiny, pictures: list[Picture], family: str, kind: str
) -> None:
    """Two candidates without a picture show the same blank one, at the same place, behind different titles."""
    model = open_model(str(tiny(family)))
    lead: tuple[str | Picture, ...] = ("history: the user bought a cream and a lipstick",)
    if kind == "history too":
        lead = (*lead, pictures[0], pictures[1])
    blank = Picture(None)
    shown = [("cream", blank), ("lipstick", blank), ("poster", blank if kind == "all blank" else pictures[2])]
    chats = []
    for order in ((0, 1, 2), (1, 2, 0)):
        listed = [
            part for letter, item in zip(LETTERS, order, strict=False) for part in (f"\n{letter}. ", *shown[item])
        ]
        chats.append(Chat((*lead, *listed)))
    shared = share(model, chats)
    assert len(shared.prefix) > 16, "nothing would be saved"
    assert bool(shared.prefix.pictures) == (kind == "history too")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = Scorer(model).logits(chats, LETTERS[:3])
    torch.testing.assert_close(short, Scorer(model, reuse=False).logits(chats, LETTERS[:3]), atol=1e-3, rtol=0)


def test_a_family_that_hides_its_placeholder_shares_no_pictures() -> None:
    row = Encoded(torch.tensor([1, 2, 3]), {}, {"pixel_values": torch.zeros(1, 3, 2, 2)})
    for config, processor, place in (({}, {}, 2), ({"image_token_index": 1}, {}, 0), ({}, {"image_token_id": 2}, 1)):
        core = SimpleNamespace(config=SimpleNamespace(**config))
        model: Any = SimpleNamespace(core=core, processor=SimpleNamespace(**processor))
        assert _last_picture_token(model, row) == place


def test_pictures_that_cannot_be_batched_are_refused(
    tiny: Tiny, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(str(tiny("llava")))
    plain = type(model.processor).__call__

    def more(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = plain(self, *args, **kwargs)
        made["grids"] = [[2, 2]]
        return made

    monkeypatch.setattr(type(model.processor), "__call__", more)
    with pytest.raises(PalateError, match=r"\(llava\) come with 'grids'"):
        model.encode(Chat((pictures[0], "Which?")))
    model.encode(Chat(("Which?",)))  # text alone is fine


def test_what_is_remembered_of_pictures_is_bounded_in_bytes(tiny: Tiny) -> None:
    model = open_model(str(tiny("llava")))
    pixels = torch.rand(6, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        every = ImageFeatureCache(model)
        whole = every.encode_images({"pixel_values": pixels})["mm_encoder_outputs"]["image"].pooler_output
        cache = ImageFeatureCache(model, max_bytes=3 * whole[0].nbytes)
        for _ in range(2):
            found = cache.encode_images({"pixel_values": pixels})["mm_encoder_outputs"]["image"].pooler_output
            for one, other in zip(found, whole, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert len(every._features) == 6
    kept = cache._features
    sizes = [one.untyped_storage().nbytes() for one in kept._tensors.values()]
    assert kept.bytes == sum(sizes) == 3 * whole[0].nbytes


def test_pictures_with_sizes_of_their_own_are_not_remembered(tiny: Tiny) -> None:
    """Pixtral calls itself llava too; its tower wants to know how large each padded picture is."""
    batch = {"pixel_values": torch.rand(2, 3, 56, 56), "image_sizes": torch.tensor([[56, 28], [28, 56]])}
    assert ImageFeatureCache(open_model(str(tiny("llava")))).encode_images(batch) == batch


def test_prompts_longer_than_the_model_reads_are_refused(tiny: Tiny) -> None:
    scorer = Scorer(open_model(str(tiny("llama"))))
    with pytest.raises(PalateError, match=r"the longest prompt has [0-9]+ tokens, .* reads 1024") as refused:
        scorer.logits([Chat(("Which?",)), Chat(("history " * 1100,))], ANSWERS)
    assert "--history-items" in str(refused.value)


@pytest.mark.parametrize(
    ("dtype", "shift", "close"),
    [
        ("float32", (5e-3, 5e-3), False),
        ("bfloat16", (2.0, 2.0), True),  # moves no score
        ("bfloat16", (4.0, 0.0), False),
        ("float16", (4.0, 0.0), False),
    ],
)
@pytest.mark.parametrize("row", [0, -1])  # the shortest and the longest
@pytest.mark.parametrize("packs", [True, False])
def test_what_counts_as_the_same_score(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    shift: tuple[float, float],
    close: bool,
    row: int,
    packs: bool,
) -> None:
    model = open_model(ModelOptions(name=str(tiny("llama")), dtype=dtype))
    scorer, chats = Scorer(model, pack=packs), _chats("none", [])
    plain = scorer._packed if packs else scorer._reusing

    def shifted(shared: Any, tokens: torch.Tensor) -> torch.Tensor:
        found = plain(shared, tokens)
        found[row] += torch.tensor(shift)
        return found

    monkeypatch.setattr(scorer, "_packed" if packs else "_reusing", shifted)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        scorer.logits(chats, ANSWERS)
    assert (scorer._packs if packs else scorer.reuse) == close


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_noise_of_half_precision_is_no_reason_to_fall_back(tiny: Tiny, dtype: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Scorer(open_model(ModelOptions(name=str(tiny("llama")), dtype=dtype))).logits(_chats("none", []), ANSWERS)
