"""The model card: what a person, and a model hub, read first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palate.bundle.manifest import NAME
from palate.errors import PalateError
from palate.storage.files import write_text

_TAGS = ["recommender-systems", "sequential-recommendation", "palate"]
_SHOWN = ("ndcg@10", "recall@10", "mrr@10", "hitrate@10")


def write_card(path: Path, facts: dict[str, Any]) -> None:
    """Write ``README.md``: YAML front matter as model hubs want it, then prose with the bundle's own figures.

    Raises:
        PalateError: the facts are those of a damaged bundle.
    """
    try:
        text = f"---\n{_front(facts)}---\n\n{_body(facts)}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PalateError(f"{NAME} is damaged ({type(error).__name__}: {error})", "Make the bundle again.") from None
    write_text(path, text)


def _front(facts: dict[str, Any]) -> str:
    content = facts["features"] or facts.get("neighbours") or facts["model"] == "mllm"
    tags = [*_TAGS, facts["model"], *(["multimodal"] if content else [])]
    lines = [
        f"license: {_yaml(facts['license'])}",
        "library_name: palate",
        "tags:",
        *(f"- {_yaml(tag)}" for tag in tags),
    ]
    tests = facts["metrics"]["test"]
    if tests:
        data = facts["run"]["dataset"]["name"]
        lines += ["model-index:", f"- name: {_yaml(facts['name'])}", "  results:"]
        for table in tests:
            lines += [
                "  - task:",
                "      type: recommendation",
                "      name: Next-item recommendation",
                "    dataset:",
                f"      type: {_yaml(data)}",
                f"      name: {_yaml(data)}",
                f"      split: {_yaml(table['split'])}",
                "    metrics:",
            ]
            for name, value in _figures(table).items():
                lines += [f"    - type: {_yaml(name)}", f"      name: {_yaml(name)}", f"      value: {value:.6f}"]
    return "\n".join(lines) + "\n"


def _figures(table: dict[str, Any]) -> dict[str, float]:
    """The metrics of a table that go on the card: the primary one, and the usual ones at 10."""
    metrics = table["metrics"]
    names = [name for name in dict.fromkeys([table["primary"], *_SHOWN]) if name in metrics]
    return {name: float(metrics[name].get("this_seed", metrics[name].get("mean", 0.0))) for name in names}


def _body(facts: dict[str, Any]) -> str:
    run, data, items = facts["run"], facts["run"]["dataset"], facts["items"]
    title = _plain(facts["name"])
    parts = [
        f"# {title}",
        f"A recommender of the kind `{facts['model']}`, trained with Palate on the data set `{_code(data['name'])}`. "
        "It ranks the items of one catalogue for the history of a person it has never met. The log that it was trained "
        "on is not in here.",
        "## Use",
        "```sh\npalate recommend BUNDLE --history ITEM,ITEM --k 10\n```",
        "```python\nfrom palate.bundle import Bundle\n\n"
        'bundle = Bundle.load("BUNDLE")  # a folder, or "hf://OWNER/NAME"\n'
        'print(bundle.recommend(["ITEM", "ITEM"], k=10))\n```',
        "## Model",
        _list(_of_model(facts)),
        "## Data",
        _list(_of_data(facts)),
        "## Measured",
        _measured(facts),
        "## Intended use",
        "Ranking the items of this catalogue, or of one that was extended with `palate add-items`, for histories like "
        "those of its training data. It is no judge of people or of the worth of things.",
        "## Limits",
        _list(_limits(facts)),
        "## Where it comes from",
        _list(
            {
                "seed": run.get("seed"),
                "code": run["environment"].get("commit") or "a released version",
                "Palate": run["environment"].get("palate"),
                "torch": run["environment"].get("torch"),
                "items": f"{items['count']:,}, fingerprint {items['fingerprint']}",
                "files": f"sha256 of each in {NAME}, checked whenever the bundle is loaded",
            }
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_model(facts: dict[str, Any]) -> dict[str, Any]:
    described = facts.get("describe") or {}
    parameters = described.get("parameters")
    made = {
        "kind": facts["model"],
        "parameters": f"{parameters:,}" if isinstance(parameters, int) else None,
        "reads": ", ".join(described.get("modalities", [])) or None,
        "aligned": (facts["run"]["options"].get("alignment") or {}).get("objective"),
    }
    if facts["model"] == "blend":
        made["sum of"] = ", ".join(f"{one['weight']:.3g} x {one['name']}" for one in described.get("parts", []))
    for name, one in facts["features"].items():
        coverage = one.get("coverage", {}).get("items")
        share = f", {coverage:.1%} of the items" if isinstance(coverage, float) else ""
        made[f"{name} features"] = f"{one['encoder']['name']}, fingerprint {one['fingerprint']}{share}"
    for name, one in (described.get("neighbours") or {}).items():
        weights = ", ".join(f"{weight:.3g}" for weight in one["weights"])
        made[f"neighbours by {name}"] = f"of {one['coverage']:.1%} of the items, weights {weights} (newest item first)"
    if base := facts.get("base"):
        made["language model"] = f"{base['name']}, fingerprint {base['fingerprint']}"
    if exported := facts.get("onnx"):
        made["ONNX"] = f"{exported['file']}, within {exported['difference']:.1g} of torch"
    return made


def _of_data(facts: dict[str, Any]) -> dict[str, Any]:
    data, items = facts["run"]["dataset"], facts["items"]
    split = data.get("split") or {}
    return {
        "data set": f"{data['name']}, fingerprint {data['fingerprint']}",
        "split": split.get("name"),
        "items": f"{items['count']:,}, of them {facts['added']:,} added after training"
        if facts.get("added")
        else f"{items['count']:,}",
        "fields": ", ".join(items["fields"]) or "none beyond the title",
        "pictures": f"{items['pictures']:,} in the bundle" if items["pictures"] else "not in the bundle",
    }


def _measured(facts: dict[str, Any]) -> str:
    parts = []
    for table in facts["metrics"]["test"]:
        users = f"{table['cases']:,} people of the {table['split']} split, {table['evaluation']}"
        rows = [f"| {name} | {value:.4f} |" for name, value in _figures(table).items()]
        seeds = len(table["seeds"])
        among = f" This run is one of {seeds} seeds." if seeds > 1 else ""
        parts.append(f"On {users}.{among}\n\n| metric | value |\n|---|---|\n" + "\n".join(rows))
    valid = facts["metrics"]["validation"]
    if valid:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in valid["metrics"].items())
        chose = "weights" if facts["model"] == "blend" else "epoch"
        parts.append(f"In training, on the validation split, which chose the {chose}: {shown}.")
    if not facts["metrics"]["test"]:
        parts.append("No figures of a test are recorded in this bundle.")
    return "\n\n".join(parts)


def _limits(facts: dict[str, Any]) -> list[str]:
    limits = [
        "It repeats what its training data did: what was popular is shown more, and who was rare in the data is served "
        "worse.",
        "The figures above hold for that data and that split; tastes and catalogues move on.",
        "Titles and pictures of items come from outside: show them as text, never as markup.",
    ]
    if facts["model"] == "blend":
        limits.append("It is a sum of several models: a new item cannot be recommended without training them again.")
    elif facts["model"] in ("popularity", "item-knn") or not (
        facts["features"] or facts.get("neighbours") or facts["model"] == "mllm"
    ):
        limits.append("Items are known by their ids alone: a new item cannot be recommended without training again.")
    if facts["model"] == "mllm":
        limits.append("It puts the proposals of a fast model in order; it does not search the catalogue by itself.")
    if any(name.startswith("model/summaries.") for name in facts["files"]):
        limits.append("It holds preferences that were written of people in the training data, without their names.")
    if facts["license"] == "unknown":
        limits.append("No license is stated: ask whoever made it before you use it.")
    return limits


def _list(facts: dict[str, Any] | list[str]) -> str:
    if isinstance(facts, list):
        return "\n".join(f"- {one}" for one in facts)
    return "\n".join(f"- {name}: {_plain(str(value))}" for name, value in facts.items() if value is not None)


def _plain(text: str) -> str:
    """Text of unknown origin as one line of Markdown that is neither markup nor a link."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|!" and char != "_" else char for char in shown)


def _code(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and char != "`")


def _yaml(text: str) -> str:
    """A YAML scalar in double quotes, which JSON's are; control characters, which YAML refuses, are left out."""
    return json.dumps("".join(char for char in str(text) if char.isprintable()), ensure_ascii=False)
