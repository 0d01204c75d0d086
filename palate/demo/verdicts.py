"""What the demo's last table and the probe of pictures show, in one sentence each, whichever way it went."""

from __future__ import annotations

from palate.demo.oracle import LABEL, NOTE, TASTE, TASTE_NOTE, join_oracles
from palate.demo.runner import Demo
from palate.demo.shop.truth import load_truth
from palate.evaluation.compare import compare
from palate.evaluation.outputs import load_groups
from palate.evaluation.saved import load_table
from palate.storage.files import read_json

ZERO_SHOT, FULL = "mllm, zero-shot", "mllm (history + pictures)"
BLIND, HANOREC, ALONE = "mllm, history-blind", "mllm + HaNoRec", "mllm, pictures alone"
Interval = tuple[float, float, float]  # mean, low, high: 95%


def show_use_of_pictures(demo: Demo) -> None:
    """Print what ``palate mllm probe`` found."""
    demo.console.print(_pictures(demo), style="bold")


def show_verdicts(demo: Demo, retriever: str) -> None:
    """Add the oracles to the table, and print what it shows; the figures are in ``demo.json`` afterwards.

    Args:
        retriever: label of the ranker that the language model is blended with.
    """
    folder = demo.out / "mllm" / "evaluation"
    truth = load_truth(demo.dataset)
    models = [label for label in load_table(folder).labels if label not in (LABEL, TASTE)]
    verdicts = {
        "history": use_of_history(*_difference(demo, FULL, BLIND)),
        "pictures": _pictures(demo),
        "hanorec": use_of_hanorec(*_difference(demo, HANOREC, FULL)),
        "blend": use_of_blend(*_difference(demo, f"{FULL} blended", retriever)),
    }
    oracles = {LABEL: {}, TASTE: {"popularity": 0 * truth.popularity}}
    notes = [NOTE, TASTE_NOTE, *verdicts.values()]
    comparison = join_oracles(demo, folder, oracles, notes, [label for label in models if label != BLIND])
    demo.facts["sampled"] = {
        row.label: {name: one.mean for name, one in row.estimates.items()} for row in comparison.rows
    }
    demo.facts["verdicts"] = verdicts
    for sentence in verdicts.values():
        demo.console.print(sentence, style="bold")


def _difference(demo: Demo, label: str, base: str) -> Interval:
    """The AUC of one row of the table minus another's, user by user."""
    groups = {group.label: group for group in load_groups(demo.out / "mllm" / "evaluation")}
    pair = compare([groups[base], groups[label]], base=base, primary="auc", seed=demo.seed)
    one = pair.row(label).differences["auc"].estimate
    return one.mean, one.low, one.high


def _pictures(demo: Demo) -> str:
    facts = read_json(demo.out / "mllm" / "probe" / "probe.json")
    figures = facts["rows"][0]["figures"]
    gain = figures["auc_right_minus_other"]
    return use_of_pictures((gain["mean"], gain["low"], gain["high"]), figures["auc_right"]["mean"])


def use_of_history(mean: float, low: float, high: float) -> str:
    """What an AUC with the history, minus that without, shows; ``low`` and ``high`` are its 95% interval."""
    figures = f"history minus no history: AUC {_text((mean, low, high))}"
    if low > 0:
        return f"The fine-tuned model uses the history ({figures})."
    if high < 0:
        return f"With the history the fine-tuned model is worse ({figures})."
    return f"So few examples and users show no use of the history ({figures}): the interval holds 0."


def use_of_pictures(gain: Interval, right: float) -> str:
    """What the right picture of a candidate is worth against another item's, where prompts show pictures alone.

    Args:
        gain: AUC with the right pictures minus that with others'.
        right: AUC with the right pictures.
    """
    figures = f"by pictures alone: AUC {right:.3f}, the right picture minus another's {_text(gain)}"
    if gain[1] > 0:
        return f"Pictures matter ({figures})."
    if gain[2] < 0:
        return f"With the right pictures it ranks worse than with others' ({figures})."
    return f"So few users do not show that the right pictures rank better ({figures}): the interval holds 0."


def use_of_hanorec(mean: float, low: float, high: float) -> str:
    """What an alignment changed: its AUC minus that of the model it started from."""
    figures = f"HaNoRec minus its start: AUC {_text((mean, low, high))}"
    if low > 0:
        return f"A few steps of HaNoRec improve the fine-tuned model ({figures})."
    if high < 0:
        return f"A few steps of HaNoRec make the fine-tuned model worse ({figures})."
    return f"A few steps of HaNoRec make no difference that so few users show ({figures}): the interval holds 0."


def use_of_blend(mean: float, low: float, high: float) -> str:
    """What a language model adds to a ranker: AUC of the blend minus that of the ranker alone."""
    figures = f"blend minus the ranker alone: AUC {_text((mean, low, high))}"
    if low > 0:
        return f"Blended with the ranker, the language model improves it ({figures})."
    if high < 0:
        return f"Blended with the ranker, the language model makes it worse ({figures})."
    side = "above" if mean >= 0 else "below"
    return f"The blend is {side} the ranker alone by no more than chance may be ({figures}): the interval holds 0."


def _text(one: Interval) -> str:
    return f"{one[0]:+.3f} [{one[1]:+.3f}, {one[2]:+.3f}]"
