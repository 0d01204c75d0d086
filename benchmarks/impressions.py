"""What alignment on impressions is worth, in drawn shops that recommend and whose people's true taste is known.

    python benchmarks/impressions.py --out runs/impressions --shops 4

Each shop (a seed of its own) shows ten items at every step by a policy that knows popularity and kinds, and nothing of
looks; people look at the top more than at the bottom, and take by their taste or search (palate/demo/shop/exposure.py).
Log and feedback go through `palate prepare --feedback`. A sasrec of ids is trained on the log; then, with the same
steps and settings, cross-entropy goes on alone, or beside DPO against items of the arm's strategy. All arms are of
equal length (`--keep last`): validation by held-out choices sees only one of the two measures.

Two measures of the ten best items on sale that the person has not had: NDCG@10 of the held-out choice, and their mean
utility under the person's taste at that moment, as a share of the way from a random item to the best ten (`taste`).
Differences are paired by person. Their 95% interval, and the smallest effect that would have been seen (80% power, 5%
error), are the wider of those over people and over shops.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from scipy import stats

from palate.alignment.align import align
from palate.console import open_console
from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.demo.shop.assortment import draw_assortment, draw_shop
from palate.demo.shop.choice import Shop, steady, utility
from palate.demo.shop.exposure import Exposure, simulate_exposed, write_logs
from palate.demo.shop.people import PurchaseLog
from palate.demo.shop.style import DEMO
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.fit import train

Floats = npt.NDArray[np.float64]
K = 10
# Name -> negatives and their settings; None is cross-entropy alone.
ARMS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "cross-entropy": None,
    "uniform": ("uniform", {}),
    "top-k": ("top-k", {}),
    "shown": ("shown", {}),
    "shown above": ("shown", {"shown": "above"}),
    "shown and top-k": ("shown", {"shown_share": 0.5}),
}


class KnownShop:
    """One drawn shop: its dataset, and how good a list is for its people."""

    def __init__(self, folder: Path, seed: int, options: argparse.Namespace) -> None:
        streams = [np.random.default_rng([seed, task]) for task in range(3)]
        style = replace(DEMO, typical_further=options.further)
        goods = draw_assortment(options.items, streams[0], style)
        self.shop: Shop = draw_shop(goods, streams[1], style)
        exposure = Exposure(attention=options.attention)
        self.log: PurchaseLog
        self.log, showings = simulate_exposed(self.shop, options.users, streams[2], style, exposure)
        if not (folder / "dataset").exists():
            write_logs(folder, goods, self.log, showings)
            made = prepare(folder / "log.parquet", "table", feedback=folder / "feedback", name=f"shop-{seed}")
            made.save(folder / "dataset")
        self.data = Dataset.load(folder / "dataset")
        place = {product.name: number for number, product in enumerate(goods)}
        self.place = np.array([place[name] for name in self.data.catalogue.ids[1:]])

    def judge(self, run: Run) -> tuple[Floats, Floats]:
        """NDCG@10 and taste of each test case: float64 ``[users]`` each."""
        recommender, cases = load_recommender(run), self.data.cases("test")
        gains, shares = [], []
        for start in range(0, len(cases), 500):
            some = cases.take(np.arange(start, min(start + 500, len(cases))))
            with torch.no_grad():
                scores = recommender.score(some.histories).detach().double().numpy()[:, 1:].copy()
            worth = self._worth(some.users)
            rows = np.repeat(np.arange(len(some)), some.histories.lengths)
            worth[rows, some.histories.values - 1] = -np.inf
            scores[~np.isfinite(worth)] = -np.inf
            target = some.targets.values - 1
            ranks = (scores >= scores[np.arange(len(some)), target][:, None]).sum(1)
            gains.append(np.where(ranks <= K, 1 / np.log2(1 + ranks), 0.0))
            of_list = np.take_along_axis(worth, np.argpartition(-scores, K, 1)[:, :K], 1).mean(1)
            best = -np.partition(-worth, K, 1)[:, :K].mean(1)
            there = np.isfinite(worth)
            mean = np.where(there, worth, 0).sum(1) / there.sum(1)
            shares.append((of_list - mean) / (best - mean))
        return np.concatenate(gains), np.concatenate(shares)

    def _worth(self, users: npt.NDArray[np.int64]) -> Floats:
        """float64 ``[users, items of the dataset]`` at the moment of each held-out choice."""
        rows = self.log.offsets[users + 1] - 1
        likings = replace(self.log.likings, **{name: values[users] for name, values in vars(self.log.likings).items()})
        all_items = utility(
            self.shop, steady(self.shop, likings), self.log.taste[rows], self.log.times[rows], self.log.previous[rows]
        )
        return all_items[:, self.place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="what is there stays: the command goes on")
    parser.add_argument("--shops", type=int, default=4)
    parser.add_argument("--first-shop", type=int, default=0)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--further", type=float, default=6.0, help="median of purchases beyond the first five")
    parser.add_argument("--attention", type=float, default=0.85, help="chance to look at the next position; 1 sees all")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--epochs", type=int, default=3, help="of each arm")
    parser.add_argument("--weight", type=float, default=1.0, help="of the preference loss")
    parser.add_argument("--beta", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of each arm")
    parser.add_argument("--keep", choices=["last", "best"], default="last", help="weights of each arm; best by NDCG")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured: dict[str, list[tuple[Floats, Floats]]] = {}
    for seed in range(options.first_shop, options.first_shop + options.shops):
        folder = options.out / f"shop-{seed}"
        world = KnownShop(folder, seed, options)
        base = train(
            world.data,
            model="sasrec",
            out=folder / "base",
            dataset_path=folder / "dataset",
            seed=seed,
            settings={
                "ranker": {"dim": 32, "max_length": 30},
                "trainer": {"epochs": 60, "patience": 6, "batch_size": 64, "learning_rate": 3e-3, "device": "cpu"},
            },
            resume=True,
        )
        measured.setdefault("start", []).append(world.judge(base))
        for name in options.arms:
            began, arm = process_time(), ARMS[name]
            trainer = {"epochs": options.epochs, "learning_rate": options.learning_rate, "keep": options.keep}
            trainer |= {"patience": 0, "validations_per_epoch": 2}
            settings: dict[str, Any] = {"trainer": trainer}
            if arm is not None:
                settings |= {"negatives": arm[1], "preference": {"beta": options.beta}}
                settings["align"] = {"weight": options.weight}
            knobs = f"{options.weight:g}-{options.beta:g}-{options.learning_rate:g}-{options.epochs}-{options.keep}"
            run = align(
                base,
                out=folder / f"{name.replace(' ', '-')}-{knobs}",
                objective="none" if arm is None else "dpo",
                negatives="top-k" if arm is None else arm[0],
                seed=seed,
                settings=settings,
                dataset=world.data,
                dataset_path=folder / "dataset",
                resume=True,
            )
            measured.setdefault(name, []).append(world.judge(run))
            gain, taste = (float(values.mean()) for values in measured[name][-1])
            best = run.info["best"]
            print(
                f"shop {seed}, {name}: ndcg {gain:.4f} taste {taste:.4f}, validation {best['NDCG@10']:.4f} at epoch "
                f"{best['epoch']}, {process_time() - began:.0f} CPU s {run.info.get('alignment', {}).get('shown', '')}",
                flush=True,
            )
    report(measured, options.out)


def report(measured: dict[str, list[tuple[Floats, Floats]]], out: Path) -> None:
    """Print and keep the means of all arms, and paired differences to cross-entropy, top-k and uniform."""
    means = Table("arm", "NDCG@10", "taste", title="Means over shops")
    for name, shops in measured.items():
        means.add_row(name, *(f"{np.mean([shop[place].mean() for shop in shops]):.4f}" for place in (0, 1)))
    table = Table("difference", "NDCG@10", "seen from", "taste", "seen from", title="Paired by person")
    kept: list[dict[str, Any]] = []
    for base in ("cross-entropy", "top-k", "uniform"):
        for name, shops in measured.items():
            if base not in measured or name == base or (base != "cross-entropy" and not name.startswith("shown")):
                continue
            row = []
            for place, measure in enumerate(("ndcg@10", "taste")):
                differences = [one[place] - other[place] for one, other in zip(shops, measured[base], strict=True)]
                mean, half, seen = paired(differences)
                row += [f"{mean:+.4f} ± {half:.4f}", f"{seen:.4f}"]
                by_shop = [float(one.mean()) for one in differences]
                kept.append({"arm": name, "minus": base, "measure": measure, "mean": mean, "half_width": half})
                kept[-1] |= {"smallest_seen": seen, "by_shop": by_shop}
            table.add_row(f"{name} - {base}", *row)
    console = open_console()
    console.print(means)
    console.print(table)
    (out / "table.json").write_text(json.dumps(kept, indent=2))


def paired(differences: list[Floats]) -> tuple[float, float, float]:
    """The mean over shops, half of its 95% interval, and the smallest effect that would have been seen.

    By the wider of two: over people, and over shops, of which there are few (Student's t).
    """
    means = np.array([one.mean() for one in differences])
    people = np.sqrt(sum(one.var(ddof=1) / len(one) for one in differences)) / len(differences)
    widths = [(stats.norm.ppf(0.975) * people, (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * people)]
    if len(means) > 1:
        shops, t = means.std(ddof=1) / np.sqrt(len(means)), stats.t(len(means) - 1)
        widths.append((t.ppf(0.975) * shops, (t.ppf(0.975) + t.ppf(0.8)) * shops))
    half, seen = max(widths)
    return float(means.mean()), float(half), float(seen)


if __name__ == "__main__":
    main()
