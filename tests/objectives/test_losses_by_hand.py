"""docs/losses-by-hand.md keeps its word: its code runs, no objective is missing, its table is autograd's."""

from __future__ import annotations

import doctest
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from palate.objectives import OBJECTIVES, PREFERENCES, Batch, Pairs, Scores
from palate.objectives.negatives import Negatives, SampledObjective

PAGE = Path(__file__).resolve().parents[2] / "docs" / "losses-by-hand.md"
TEXT = PAGE.read_text(encoding="utf-8")
# The example of the page: the chosen item, then the rejected ones.
POLICY, REFERENCE, HARDNESS = [2.0, 3.0, 1.0, 0.0], [1.0, 2.0, 1.0, 2.0], [1.5, 1.0, 0.5]
DRAWN = [2, 4]  # of the items 1 to 4: what a step of a sampled training loss has drawn


def train_row(name: str) -> list[float]:
    """A training loss of the example and its gradients on the four scores."""
    items = torch.tensor([0.0, *POLICY]).unsqueeze(1).requires_grad_()
    scores = Scores(torch.ones(1, 1), items)
    batch = Batch(torch.tensor([1]), torch.arange(1, 5), torch.ones(5))
    kind = OBJECTIVES[name]
    if issubclass(kind, SampledObjective):
        drawn = torch.tensor(DRAWN)
        own = drawn if name == "sampled-softmax" else drawn.unsqueeze(0)
        negatives = Negatives(own, torch.ones(1, 2, dtype=torch.bool), torch.full(own.shape, 1 / 4).log())
        value = kind(kind.Config(num_negatives=2)).loss(scores, batch, negatives).value
    else:
        value = kind()(scores, batch).value
    (slopes,) = torch.autograd.grad(value, items)
    return [value.item(), *slopes[1:, 0].tolist()]


def preference_row(name: str) -> list[float]:
    """A preference loss of the example at beta 1 and its gradients on the policy's four scores."""

    def tensors(values: list[float]) -> tuple[Tensor, Tensor]:
        return torch.tensor(values[:1]), torch.tensor(values[1:]).unsqueeze(0)

    chosen, rejected = (one.requires_grad_() for one in tensors(POLICY))
    pairs = Pairs(chosen, rejected, *tensors(REFERENCE), hardness=torch.tensor([HARDNESS]))
    kind = PREFERENCES[name]
    settings = {"noise": "none"} if name == "hanorec" else {}
    losses = kind(kind.Config(beta=1.0, **settings))(pairs).losses
    left, right = torch.autograd.grad(losses.sum(), (chosen, rejected))
    return [losses.item(), *left.tolist(), *right[0].tolist()]


def table() -> str:
    """The page's last table, from the library."""
    rows = [(f"`{name}`, training", train_row(name)) for name in OBJECTIVES]
    rows += [(f"`{name}`", preference_row(name)) for name in PREFERENCES]
    cells = [[label, f"{value:.4f}", *(f"{slope:+.4f}" for slope in slopes)] for label, (value, *slopes) in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells).replace("+0.0000", "0")


def test_its_code_gives_what_it_shows() -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```", TEXT, re.M | re.S)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 50
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_the_arithmetic_in_the_text_adds_up() -> None:
    """``1.5 + 2 = 3.5`` wherever it stands, and ``-log 0.5`` = 0.6931; to the digits that are shown."""
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)
    prose = re.sub(r"[`*\n]+", " ", prose).replace("·", "*")
    sums = re.findall(r"(?<![\w.])((?:[\d.]+|\()[\d.+*/() -]*[+*/-] *[\d.]+\)*(?: / \d)?) = +([\d.]+\d)", prose)
    logs = re.findall(r"(-?)log ([\d.]+) *= +([\d.]+\d)", prose)
    assert len(sums) > 12
    assert len(logs) > 2
    for expression, result in sums:
        value = eval(expression)  # noqa: S307  (digits and operators, by the pattern above)
        assert value == pytest.approx(float(result), abs=1.1e-4), expression
    for sign, number, result in logs:
        assert float(f"{sign}1") * math.log(float(number)) == pytest.approx(float(result), abs=1.1e-4), number


def test_its_table_of_exponentials_is_right() -> None:
    (head, *rows) = re.findall(r"^\| (?:x|`(?:exp|σ|-log σ)\(x\)`) \|(.*)\|$", TEXT, re.M)
    functions = (math.exp, lambda x: 1 / (1 + math.exp(-x)), lambda x: math.log(1 + math.exp(-x)))
    places = [float(cell) for cell in head.split("|")]
    for function, row in zip(functions, rows, strict=True):
        assert [float(cell) for cell in row.split("|")] == [round(function(x), 4) for x in places]


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_training_loss_has_a_section(name: str) -> None:
    training = TEXT.partition("## Losses that train")[2].partition("## Losses that align")[0]
    assert f"### {name}\n" in training
    assert name == "cross-entropy" or f'train_loss("{name}"' in training


@pytest.mark.parametrize("name", list(PREFERENCES))
def test_every_preference_has_a_section(name: str) -> None:
    aligning = TEXT.partition("## Losses that align")[2].partition("## All of them")[0]
    assert re.search(rf"^### {name}\b", aligning, re.M)
    assert f'>>> loss("{name}"' in aligning


def test_its_table_is_what_the_library_gives() -> None:
    shown = TEXT.partition("## All of them side by side")[2]
    rows = "\n".join(re.findall(r"^\| `.*$", shown, re.M))
    assert rows == table()


def test_every_result_in_bold_is_in_the_table_or_a_sum() -> None:
    """The arithmetic in the text ends at the value that the table has."""
    values = {f"{row[0]:.4f}" for row in map(train_row, OBJECTIVES)}
    values |= {f"{row[0]:.4f}" for row in map(preference_row, PREFERENCES)}
    shown = set(re.findall(r"\*\*(\d\.\d{4})\*\*", TEXT))
    assert shown == values | {"2.1333"}  # the sum of RoDPO, which the page computes
