"""Every family that docs/mllm-models.md names, through every stage; its table says which short cuts are taken."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")
pytest.importorskip("trl")

from sft_helpers import option_logits_of, tiny_settings
from tiny_families import TEXT, VISION, tiny_family
from tiny_llms import TEXT_FAMILIES, VISION_FAMILIES
from worlds import two_tastes

from palate.data.dataset import Dataset
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.local import LocalBackend
from palate.mllm.components import load_components
from palate.mllm.finetune.option_loss import CaseCollator, can_pack
from palate.mllm.finetune.sft import SFTPlan, fine_tune, training_examples
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.scoring.prefix import share
from palate.mllm.scoring.scorer import _PACKED, _WORTH, Scorer
from palate.rankers.registry import load_recommender

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[3] / "docs/mllm-models.md"
ANSWERS = ("Yes", "No")
OWN = {"qwen2.5-vl": "qwen2_5_vl", "qwen3-vl": "qwen3_vl"}  # what transformers calls them


@cache
def table() -> dict[str, list[str]]:
    """The rows of the docs' table: pictures, shared part read once, prompts packed."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| (\w+) \|", DOCS.read_text(), re.M)
    return {family: list(cells) for family, *cells in rows}


FAMILIES = (*TEXT_FAMILIES, *VISION_FAMILIES, *TEXT, *VISION)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model."""
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family in (*TEXT_FAMILIES, *VISION_FAMILIES):
            return tiny(family)
        if family not in made:
            made[family] = tiny_family(tmp_path_factory.mktemp("families") / family, family)
        return made[family]

    return of


Model = Callable[[str], Path]


def takes_pictures(family: str) -> bool:
    return family in (*VISION_FAMILIES, *VISION)


def chats(folder: Path, pictures: bool) -> list[Chat]:
    """Prompts of one user, with different candidates."""
    shown = []
    for number in range(5):
        Image.new("RGB", (60 + 14 * number, 60), (40 * number, 90, 250 - 40 * number)).save(folder / f"{number}.png")
        shown.append(Picture(folder / f"{number}.png") if pictures else "")
    lead = ("history: the user bought a cream and a lipstick; ", shown[4], "\n")
    words = [f"item {'long ' * number}name. Would the user take it?" for number in range(4)]
    return [Chat((*lead, "candidate: ", shown[number], text)) for number, text in enumerate(words)]


def test_the_table_holds_the_tested_families() -> None:
    named = {OWN.get(family, family) for family in FAMILIES}
    assert set(table()) == named
    assert {family for family, cells in table().items() if cells[0] == "yes"} == {
        OWN.get(family, family) for family in FAMILIES if takes_pictures(family)
    }


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_models_own(model: Model, tmp_path: Path, family: str, dtype: str, packs: bool) -> None:
    chat_model = open_model(ModelOptions(name=str(model(family)), dtype=dtype))
    prompts = chats(tmp_path, takes_pictures(family))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        scorer = Scorer(chat_model, pack=packs)
        short = scorer.logits(prompts, ANSWERS)
    said = table()[OWN.get(family, family)][2]
    packed = any(kind for kind, _ in scorer._checked)  # compared, and found to be the same
    shared = share(chat_model, prompts)
    if said != "window":
        assert packed == (packs and said == "yes" and len(shared.prefix) >= _WORTH and shared.tokens <= _PACKED)
    assert scorer.reuse == (table()[OWN.get(family, family)][1] == "yes")
    assert scorer.reuse != any("read as a whole instead" in str(one.message) for one in warned)
    assert chat_model.short_head
    tokens = chat_model.first_tokens(prompts[0], ANSWERS)
    core = chat_model.core
    own = []
    for prompt in prompts:
        batch = chat_model.collate([chat_model.encode(prompt)])
        cast = {key: one.to(core.dtype) if one.is_floating_point() else one for key, one in batch.items()}
        with torch.inference_mode():
            own.append(core(**cast).logits[0, -1, tokens].float())
    size = max(1.0, float(torch.stack(own).abs().max()))
    close = (1e-5 if dtype == "float32" else 0.03) * size
    torch.testing.assert_close(short, torch.stack(own), atol=close, rtol=0)
    assert short.std(dim=0).min() > 1e-3, "the candidates are not told apart"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_where_it_changes_nothing(dataset: Dataset, model: Model, family: str, dtype: str) -> None:
    prompt = {"images": "both" if takes_pictures(family) else "none"}
    plan = SFTPlan.of(tiny_settings(model(family), model={"dtype": dtype}, prompt=prompt))
    parts = load_components(dataset, plan.model, plan.prompt)
    examples = training_examples(dataset, parts.recommender(), plan.examples, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packs = can_pack(parts.model, examples)
    assert packs == (table()[OWN.get(family, family)][2] == "yes")
    batch = CaseCollator(parts.model, examples, packs)([{"row": 0}])
    with torch.inference_mode():
        found = option_logits_of(parts, batch, examples.answers, examples[0][0])
    naive = Scorer(parts.model, reuse=False).logits(examples.case(0)[0], examples.answers)
    size = max(1.0, float(naive.abs().max()))
    close = (1e-4 if dtype == "float32" else 0.03) * size
    torch.testing.assert_close(found.reshape(naive.shape), naive, atol=close, rtol=0)


@pytest.mark.parametrize("loss", ["tokens", "options"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_two_steps_of_fine_tuning(dataset: Dataset, model: Model, tmp_path: Path, family: str, loss: str) -> None:
    settings = tiny_settings(
        model(family),
        prompt={"images": "both" if takes_pictures(family) else "none"},
        trainer={"keep": "last", "loss": loss},
        lora={"dropout": 0.0} if family == "qwen3_next" else {},  # PEFT adapts its experts, without dropout only
    )
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu")
    scores = load_recommender(run).score([[1, 3], [2]], torch.tensor([[5, 2, 8], [4, 7, 9]]))
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_writes(model: Model, tmp_path: Path, family: str) -> None:
    found: list[Reply] = []

    def done(reply: Reply) -> Sequence[Any]:
        found.append(reply)
        return []

    prompts = [
        ModelRequest(str(number), chat, 5) for number, chat in enumerate(chats(tmp_path, takes_pictures(family)))
    ]
    LocalBackend(open_model(str(model(family)))).work(prompts, done)
    assert len(found) == 4
    assert not [reply.error for reply in found if reply.text is None and "empty" not in str(reply.error)]
