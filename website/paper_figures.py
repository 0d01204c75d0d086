"""Draws the papers' methods as Palate builds them, one figure each: ``make figures``.

    python website/paper_figures.py [--out FOLDER]

Without a folder the pictures are written to docs/pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from diagram import DATA, FROZEN, LOSS, POLICY, TEXT, TITLE, VIOLET, Bar, Diagram, Label, Tile

from palate.plots import GREEN

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"


def heading(diagram: Diagram, x: float, y: float, text: str) -> None:
    diagram.add(Label(x, y, text, size=TITLE, weight="bold", align="left"))


def mllm_msr() -> Diagram:
    """Picture -> summary; blocks of the history -> preference, as of a cut-off; candidate -> yes or no."""
    d = Diagram(8.0, 4.85)

    d.box(0.05, 3.8, 7.9, 1.0, DATA, look="lane")
    heading(d, 0.2, 4.62, "1   Describe what each picture shows")
    d.add(Tile(0.45, 3.93, 0.5, VIOLET))
    writer = d.box(1.4, 3.94, 1.9, 0.48, POLICY, "Vision-language model")
    summary = d.box(
        3.75, 3.94, 3.95, 0.48, TEXT, "Item summary", "“Red enamel kettle on white; rounded, glossy, retro.”"
    )
    d.arrow((0.98, 4.18), writer.side("left"))
    d.arrow(writer.side("right"), summary.side("left"))

    d.box(0.05, 1.35, 7.9, 2.37, DATA, look="lane")
    heading(d, 0.2, 3.55, "2   Write the user's preference block by block, as of a cut-off")
    size, gap = 0.3, 0.08
    starts = [0.45 + 1.75 * block + (size + gap) * place for block in range(3) for place in range(3)]
    for row, (case, target) in enumerate((("training", 7), ("validation", 8), ("test", 9))):
        y = 3.26 - 0.18 * row
        read, asked, end = starts[target - 2] + size, starts[target - 1], starts[-1] + size
        d.add(Bar(starts[0], y, read - starts[0], 0.11, POLICY), Bar(asked, y, size, 0.11, GREEN))
        if target < 9:
            d.add(Bar(starts[target], y, end - starts[target], 0.11, DATA, hatched=True))
        note = f"{case}: predicts item {target}, reads 1 to {target - 1}"
        d.add(Label(end + 0.14, y + 0.055, note, align="left"))
    for place, x in enumerate(starts):
        d.add(Tile(x, 2.42, size, VIOLET, str(place + 1)))
    heads = [d.box(starts[3 * block], 1.52, 1.06, 0.36, POLICY, "LLM") for block in range(3)]
    notes = [d.box(head.right + 0.2, 1.52, 0.3, 0.36, TEXT, f"$p_{place + 1}$") for place, head in enumerate(heads)]
    for place, head in enumerate(heads):
        x, _ = head.side("top")
        d.arrow((x, 2.37), head.side("top"))
        d.arrow(head.side("right"), notes[place].side("left"))
        if place < 2:
            d.arrow(notes[place].side("right"), heads[place + 1].side("left"))
    d.add(Label(heads[0].middle[0] + 0.08, 2.13, "titles + item summaries", align="left"))
    d.add(Label(heads[2].middle[0] + 0.08, 2.13, "up to the cut-off only", align="left"))
    d.add(Label(notes[2].right + 0.2, 1.7, "$p$: a preference in words; cases share\ntheir first steps", align="left"))

    d.box(0.05, 0.05, 7.9, 1.22, DATA, look="lane")
    heading(d, 0.2, 1.08, "3   Ask about a candidate")
    candidate = d.box(0.95, 0.2, 1.7, 0.56, VIOLET, "Candidate", "title, picture", look="bare")
    d.add(Tile(0.35, 0.23, 0.5, VIOLET))
    judge = d.box(3.6, 0.2, 2.1, 0.56, POLICY, "Vision-language model", "LoRA, fine-tuned on the log")
    d.arrow(candidate.side("right"), judge.side("left"))
    d.arrow(notes[2].side("bottom"), (notes[2].middle[0], judge.top))
    d.add(Label(notes[2].middle[0] - 0.08, 1.02, "preference", align="right"))
    for y, word, share in ((0.53, "Yes", 0.5), (0.27, "No", 0.2)):
        d.add(Label(6.3, y + 0.08, word, align="right"), Bar(6.36, y, share, 0.15, GREEN if word == "Yes" else LOSS))
    d.arrow(judge.side("right"), (6.02, judge.middle[1]))
    d.add(Label(7.42, 0.57, "score", size=TITLE, weight="bold"))
    d.add(Label(7.42, 0.37, r"$\ell_{\mathrm{yes}} - \ell_{\mathrm{no}}$", size=TITLE))
    d.arrow((6.93, 0.48), (7.1, 0.48))
    return d


def hanorec() -> Diagram:
    """SFT -> pairs -> a beta for each of hardness and responsiveness; a noisy policy against a clean reference."""
    d = Diagram(8.0, 4.3)

    pair = d.box(0.1, 2.2, 1.5, 1.55, DATA, look="lane")
    heading(d, 0.22, 3.58, "Pairs of the log")
    d.add(Tile(0.25, 2.95, 0.42, GREEN), Tile(0.25, 2.35, 0.42, LOSS))
    d.add(Label(0.78, 3.16, "$y^+$ chosen", align="left"), Label(0.78, 2.56, "$y^-$ rejected", align="left"))

    policy = d.box(2.1, 3.4, 1.75, 0.6, POLICY, "Policy", "SFT + new adapter, trained")
    start = d.box(2.1, 2.7, 1.75, 0.36, DATA, "Fine-tuned (SFT)")
    frozen = d.box(2.1, 1.8, 1.75, 0.55, FROZEN, "Reference", "frozen, no noise")
    d.arrow(start.side("top"), policy.side("bottom"), dashed=True)
    d.arrow(start.side("bottom"), frozen.side("top"), dashed=True)
    d.add(Label(3.05, 3.22, "starts from", align="left"), Label(3.05, 2.52, "adapter off", align="left"))
    middle = (pair.right, 2.98)
    for model in (policy, frozen):
        y = model.middle[1]
        d.arrow(middle, (1.85, 2.98), (1.85, y), (2.1, y))

    noise = d.box(4.35, 3.4, 1.2, 0.6, VIOLET, "NoDO", r"noise $\mathcal{N}(0, \sigma^2)$")
    delta = d.box(4.7, 2.45, 1.85, 0.56, POLICY, "Preference logit", r"$\Delta_j = (s^+ - r^+) - (s^-_j - r^-_j)$")
    loss = d.box(6.85, 2.4, 1.05, 0.66, LOSS, "Loss", r"$-\log\,\sigma(\beta_j \Delta_j)$")
    d.arrow(policy.side("right"), noise.side("left"))
    d.arrow(noise.side("bottom"), (noise.middle[0], delta.top))
    d.add(Label(noise.middle[0] + 0.08, 3.21, "scores $s$", align="left"))
    d.arrow(frozen.side("right"), (4.48, frozen.middle[1]), (4.48, 2.73), delta.side("left"))
    d.add(Label(3.93, 2.23, "scores $r$", align="left"))
    d.arrow(delta.side("right"), loss.side("left"))

    d.box(0.1, 0.08, 7.8, 1.5, DATA, look="lane")
    heading(d, 0.22, 1.4, "HaRS: a beta for every pair, without a gradient")
    content = d.box(0.3, 0.2, 1.3, 0.5, TEXT, "Items", "texts, pictures")
    likeness = d.box(2.1, 0.2, 1.75, 0.5, TEXT, "Similarity", "of $y^+$ and $y^-_j$")
    hardness = d.box(4.35, 0.2, 1.5, 0.5, VIOLET, "Hardness $h_j$")
    response = d.box(4.35, 0.86, 1.5, 0.5, VIOLET, "Responsiveness $R$")
    beta = d.box(6.5, 0.5, 1.3, 0.56, VIOLET, r"$\beta_j = \beta \cdot R \cdot h_j$")
    d.arrow(content.side("right"), likeness.side("left"))
    d.arrow(likeness.side("right"), hardness.side("left"))
    for part in (hardness, response):
        y = part.middle[1]
        d.arrow(part.side("right"), (6.15, y), (6.15, beta.middle[1]), beta.side("left"))
    d.arrow((5.2, delta.bottom), (5.2, response.top), dashed=True)
    d.add(Label(5.28, 1.93, r"gaps $\beta\Delta$ of a step", align="left"))
    d.arrow((7.38, beta.top), (7.38, loss.bottom))
    return d


def rodpo() -> Diagram:
    """History -> encoder -> scores -> the policy's best -> one is drawn -> DPO beside cross-entropy."""
    d = Diagram(8.0, 4.2)

    d.add(*(Tile(0.2 + 0.37 * place, 2.95, 0.3, DATA) for place in range(4)))
    d.add(Label(0.92, 3.4, "History", size=TITLE, weight="bold"))
    encoder = d.box(2.1, 2.55, 1.55, 1.3, POLICY)
    d.add(Label(2.875, 3.68, "Policy: encoder", size=TITLE, weight="bold"))
    d.box(2.2, 2.65, 1.35, 0.78, POLICY, look="dashed")
    d.add(Label(2.875, 3.29, "sparse experts,"), Label(2.875, 3.12, "optional"))
    for place in range(4):
        d.add(Bar(2.32 + 0.29 * place, 2.74, 0.22, 0.2, POLICY, hatched=place != 1))
    frozen = d.box(2.1, 1.05, 1.55, 0.62, FROZEN, "Reference", "the start, frozen")
    d.arrow((1.66, 3.1), (2.1, 3.1))
    d.arrow((1.85, 3.1), (1.85, frozen.middle[1]), frozen.side("left"))
    d.arrow(encoder.side("bottom"), frozen.side("top"), dashed=True)
    d.add(Label(2.95, 2.1, "copied once", align="left"))

    left, width, gap, base = 4.15, 0.13, 0.045, 2.75
    scores = d.box(3.98, 2.46, 2.4, 1.66, DATA, look="lane")
    heights = [0.98, 0.92, 0.85, 0.8, 0.74, 0.69, 0.6, 0.5, 0.42, 0.33, 0.25, 0.18]
    history, target, pool, drawn = (1, 8), 5, (0, 2, 3, 4, 6), 3
    for place, height in enumerate(heights):
        colour = GREEN if place == target else LOSS if place in pool else DATA
        d.add(Bar(left + place * (width + gap), base, width, height, colour, hatched=place in history))
    d.add(Label(5.18, 3.95, "Catalogue, best score first", size=TITLE, weight="bold"))
    d.arrow(encoder.side("right"), (scores.left, encoder.middle[1]))
    end = left + 6 * (width + gap) + width
    d.arrow((left, 2.66), (end, 2.66), colour=LOSS, head=False)
    d.add(Label(end + 0.1, 2.62, "pool, $K$ = 5", colour=LOSS, align="left"))
    x = left + drawn * (width + gap) + width / 2

    pair = d.box(3.98, 0.95, 2.4, 1.1, DATA, look="lane")
    d.add(Tile(4.15, 1.55, 0.36, GREEN), Tile(4.15, 1.07, 0.36, LOSS))
    d.add(Label(4.62, 1.73, "chosen: came next", align="left"))
    d.add(Label(4.62, 1.25, "rejected: drawn", align="left"))
    d.arrow((x, 2.62), (x, pair.top), colour=LOSS)
    d.add(Label(x + 0.1, 2.3, "one is drawn at random", colour=LOSS, align="left"))

    entropy = d.box(6.7, 3.1, 1.2, 0.5, LOSS, "Cross-entropy")
    total = d.box(6.7, 2.2, 1.2, 0.44, LOSS, r"CE + $\lambda$ DPO")
    dpo = d.box(6.7, 1.2, 1.2, 0.6, LOSS, "DPO", r"$-\log\,\sigma(\beta \Delta)$")
    d.arrow((scores.right, entropy.middle[1]), entropy.side("left"))
    d.arrow(entropy.side("bottom"), total.side("top"))
    d.arrow(dpo.side("top"), total.side("bottom"))
    d.arrow(pair.side("right"), dpo.side("left"))
    d.arrow(frozen.side("bottom"), (frozen.middle[0], 0.72), (7.3, 0.72), dpo.side("bottom"))
    d.add(Label(4.0, 0.84, "scores of both items under the reference", align="left"))

    marks = [
        (0.2, GREEN, False, "the item that came next"),
        (2.2, LOSS, False, "may be drawn"),
        (3.6, DATA, True, "in the history: never rejected"),
        (6.1, DATA, False, "beyond the best $K$"),
    ]
    for x, colour, hatched, words in marks:
        d.add(Bar(x, 0.2, 0.14, 0.14, colour, hatched), Label(x + 0.22, 0.27, words, align="left"))
    return d


FIGURES: dict[str, Callable[[], Diagram]] = {"mllm-msr": mllm_msr, "hanorec": hanorec, "rodpo": rodpo}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures (default docs/pictures)")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        draw().write(out / f"{name}.png")


if __name__ == "__main__":
    main()
