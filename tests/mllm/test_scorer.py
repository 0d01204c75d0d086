"""The scores of answers: the short way equals the naive one, for every family, in fp32."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tiny_llms import FAMILIES, VISION_FAMILIES

from palate.errors import PalateError
from palate.mllm.chat import Chat, Picture
from palate.mllm.loading import open_model
from palate.mllm.model import ChatModel
from palate.mllm.prefix import share
from palate.mllm.scorer import Scorer

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
    model = open_model(str(tiny("llama")), dtype="bfloat16")
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
    monkeypatch.setattr(scorer, "_reusing", lambda shared, tokens: torch.full((len(shared.wholes), 2), 9.0))
    with pytest.warns(UserWarning, match="read as a whole instead"):
        found = scorer.logits(chats, ANSWERS)
    torch.testing.assert_close(found, naive)
    assert not scorer.reuse


def test_costs_are_counted(tiny: Tiny) -> None:
    model = open_model(str(tiny("llama")))
    chats = _chats("none", [])
    short, naive = Scorer(model), Scorer(model, reuse=False)
    for scorer in (short, naive):
        scorer.logits(chats, ANSWERS)
        scorer.logits(chats, ANSWERS)
    assert short.prompts == naive.prompts == 8
    assert naive.tokens == 2 * sum(len(model.encode(chat)) for chat in chats)
    # The first call also checks one prompt against the naive way.
    shared = share(model, chats)
    once = len(shared.prefix) + sum(len(rest) for rest in shared.rests)
    assert short.tokens == 2 * once + len(shared.wholes[-1])


def test_training_mode_is_given_back(tiny: Tiny) -> None:
    model: ChatModel = open_model(str(tiny("llama")))
    model.model.train()
    Scorer(model).logits([Chat(("Which?",))], ANSWERS)
    assert model.model.training
