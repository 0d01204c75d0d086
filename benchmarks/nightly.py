"""Nightly warm starts against retraining from nothing: accuracy on the next period, forgetting, processor seconds.

    python benchmarks/nightly.py ml-1m/interactions.tsv --days 7 --first 9 --nights 4 --out runs/nightly-ml-1m
    python benchmarks/nightly.py hm-week/transactions.csv --user customer_id --item article_id --time t_dat \\
        --days 1 --first 3 --nights 3 --least 4 --out runs/nightly-hm

The log is cut into periods of ``--days``. A SASRec that is validated on the first ones chooses its number of epochs;
after each further period ("night") these models, all trained on all interactions so far, answer for the period that
follows:

* ``stale``: the first night's, never trained again
* ``anew``: the chosen number of epochs from new weights (``palate train --refit``)
* ``warm K``: K epochs from the night before's weights (``--refit --warm-start --epochs K``)
* ``active K``: the same for the first of ``--warm``, on the histories of those users only who did something in the new
  period

Each user who does something in the next period is a case: find the first new item ("returning": the model has learnt
from the user), or, of a user who is new, the one after the first ``--given``. For forgetting, the last interaction of
``--held-out`` users of the first periods is never trained on, nor anything they do later. Every row goes to
``nights.jsonl`` when it is there, so a killed call goes on; ``--again`` judges finished runs anew, and ``--table``
prints the means over all cases of all nights, with 95% intervals of the difference to ``anew``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from palate.data.dataset import Cases, Dataset
from palate.data.frames import from_frames
from palate.data.sequences import Sequences
from palate.evaluation.metrics import METRICS
from palate.evaluation.other_catalogue import OtherCatalogue
from palate.evaluation.ranking import rank_targets
from palate.evaluation.statistics import bootstrap
from palate.evaluation.unseen import seen_in, unseen_cases
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.runs.trained_on import TrainedLog
from palate.training.fit import train
from palate.training.refit import refit


def read_log(options: argparse.Namespace) -> pl.DataFrame:
    """``user``, ``item``, ``time`` (Unix milliseconds) and ``period``, oldest first; users with few are left out."""
    separator = "\t" if options.log.suffix == ".tsv" else ","
    log = pl.read_csv(options.log, separator=separator, infer_schema=False)
    times = pl.col(options.time)
    if log[options.time].str.contains("-").any():
        moment = times.str.to_datetime().dt.epoch("ms")
    else:
        moment = times.cast(pl.Int64) * 1000
    log = log.select(pl.col(options.user).alias("user"), pl.col(options.item).alias("item"), moment.alias("time"))
    log = log.sort("time", maintain_order=True).unique(["user", "item"], keep="first", maintain_order=True)
    log = log.filter(pl.len().over("user") >= options.least)
    first = log["time"].min()
    return log.with_columns(period=(pl.col("time") - first) // (options.days * 86_400_000))


def hold_out(log: pl.DataFrame, first: int, users: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The log without the last interaction in the first periods of some users (and what they do later), and these."""
    early = log.filter(pl.col("period") < first)
    able = early.filter(pl.len().over("user") >= 3)["user"].unique().sort()
    drawn = able.sample(min(users, len(able)), seed=seed)
    theirs = early.filter(pl.col("user").is_in(drawn.implode()))
    last = theirs.group_by("user", maintain_order=True).last()
    kept = pl.concat([log.filter(~pl.col("user").is_in(drawn.implode())), theirs.join(last, ["user", "item"], "anti")])
    return kept.sort("time", maintain_order=True), last


def grown(log: pl.DataFrame, periods: int, folder: Path) -> Dataset:
    """The dataset of the first periods, saved in a folder."""
    if not folder.is_dir():
        part = log.filter(pl.col("period") < periods)
        made = from_frames(part, user="user", item="item", timestamp="time", time_unit="ms", name=folder.name)
        made.save(folder)
    return Dataset.load(folder)


def active(log: pl.DataFrame, periods: int, folder: Path) -> Dataset:
    """The same items, and only the users who did something in the last period."""
    if not folder.is_dir():
        part = log.filter(pl.col("period") < periods)
        items = part.select(pl.col("item").alias("item_id")).unique(maintain_order=True)
        users = part.filter(pl.col("period") == periods - 1)["user"].unique()
        some = part.filter(pl.col("user").is_in(users.implode()))
        made = from_frames(
            some, items, user="user", item="item", timestamp="time", time_unit="ms", name=folder.name, keep_unseen=True
        )
        made.save(folder)
    return Dataset.load(folder)


class Judge:
    """NDCG@10 of a run on the next period, and on what was never trained on."""

    def __init__(self, now: Dataset, following: Dataset, last: pl.DataFrame, given: int) -> None:
        facts = TrainedLog(now.name, str(now.folder), now.fingerprint, True)
        seen = seen_in(following, facts)
        self.following = following
        cases = unseen_cases(following, seen)
        new = cases.histories.lengths == 0
        rows = [
            (user, history or targets[:given], targets[given if not history else 0])
            for user, history, targets in zip(
                cases.users, cases.histories.to_lists(), cases.targets.to_lists(), strict=True
            )
            if history or len(targets) > given
        ]
        self.next = _cases(rows)
        self.returning = np.isin(self.next.users, cases.users[~new])
        index = following.catalogue.index
        rows = [(following.user_index[u], index[i]) for u, i in last.select("user", "item").iter_rows() if i in index]
        histories = [following.history_of(str(following.user_ids[user])).tolist() for user, _ in rows]
        self.early = Cases(
            np.array([user for user, _ in rows]),
            Sequences.from_lists(histories),
            Sequences.from_lists([[i] for _, i in rows]),
        )

    def __call__(self, run: Run) -> dict[str, float]:
        model = OtherCatalogue(load_recommender(run), run.catalogue, self.following.catalogue)
        values = METRICS["ndcg"](rank_targets(model, self.next, exclude_seen=True), 10)
        early = METRICS["ndcg"](rank_targets(model, self.early, exclude_seen=True), 10)
        return {"next": values, "returning": values[self.returning], "first users": early}


def _cases(rows: list[tuple[int, list[int], int]]) -> Cases:
    """Cases of user, history and target."""
    users, histories, targets = zip(*rows, strict=True)
    return Cases(
        np.array(users, np.int64), Sequences.from_lists(histories), Sequences.from_lists([[item] for item in targets])
    )


def run_nights(options: argparse.Namespace) -> None:
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    results = out / "nights.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    if options.again:
        results.unlink(missing_ok=True)
    log, last = hold_out(read_log(options), options.first, options.held_out, options.seed)
    settings: dict[str, dict[str, Any]] = {
        "ranker": {"dim": options.dim, "layers": options.layers, "max_length": 50},
        "trainer": {"epochs": options.epochs, "patience": 3, "tensorboard": False, "device": "cpu", "ema": 0.99}
        | {"learning_rate": options.learning_rate, "batch_size": 128},
    }

    def record(night: int, model: str, make: Callable[[], Run], judge: Judge) -> None:
        before = next((row for row in done if (row["night"], row["model"]) == (night, model)), None)
        if before is not None and not options.again:
            return
        started = time.process_time()
        run = make()
        seconds = time.process_time() - started if before is None else before["cpu_seconds"]
        values = {name: [round(float(one), 5) for one in found] for name, found in judge(run).items()}
        row = {"night": night, "model": model, "cpu_seconds": round(seconds, 1), "epochs": run.info.get("epochs")}
        with results.open("a") as file:
            file.write(json.dumps({**row, "ndcg@10": values}) + "\n")
        print(json.dumps({**row, **{name: round(float(np.mean(one)), 4) for name, one in values.items()}}), flush=True)

    def folder(night: int) -> Path:
        return out / "data" / f"night-{night}"

    data = grown(log, options.first, folder(0))
    chosen = train(data, model="sasrec", out=out / "chosen", seed=options.seed, settings=settings, resume=True)
    last = last.filter(pl.col("item").is_in(data.catalogue.ids))
    print(f"validation chose {chosen.info['best']['epoch']} epochs: {chosen.info['best']['NDCG@10']:.4f}", flush=True)
    for night in range(options.nights + 1):
        now = grown(log, options.first + night, folder(night))
        following = grown(log, options.first + night + 1, folder(night + 1))
        judge = Judge(now, following, last, options.given)

        def anew(night: int = night, now: Dataset = now) -> Run:
            return refit(chosen, now, out=out / f"anew-{night}", resume=True)

        record(night, "anew", anew, judge)
        if not night:
            continue
        record(night, "stale", lambda: Run.open(out / "anew-0"), judge)
        some = active(log, options.first + night, out / "data" / f"active-{night}")
        for epochs in options.warm:
            for word, dataset in (("warm", now), ("active", some))[: 2 if epochs == options.warm[0] else 1]:
                before = out / (f"{word}{epochs}-{night - 1}" if night > 1 else "anew-0")
                shorter = {"trainer": {"epochs": epochs}}
                record(
                    night,
                    f"{word} {epochs}",
                    lambda d=dataset, b=before, s=shorter, n=f"{word}{epochs}-{night}": refit(  # type: ignore[misc]
                        chosen, d, out=out / n, settings=s, warm_start=b, resume=True
                    ),
                    judge,
                )
    print_table(results)


MEASURES = ("next", "returning", "first users")


def print_table(results: Path) -> None:
    """Means over the cases of the nights after the first."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    rows = [row for row in rows if row["night"] > 0]
    by_model: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(row["model"], []).append(row)
    whole = {
        model: {name: np.concatenate([one["ndcg@10"][name] for one in found]) for name in MEASURES}
        for model, found in by_model.items()
    }
    sizes = {name: len(one) for name, one in whole["anew"].items()}
    print("NDCG@10, and the difference to anew [95%]; cases: " + ", ".join(f"{k} {v}" for k, v in sizes.items()))
    print("| model | nights | next period | returning users | held out of the first users | CPU s |")
    print("|---|---|---|---|---|---|")
    for model, found in by_model.items():
        cells = []
        for name in MEASURES:
            values, base = whole[model][name], whole["anew"][name]
            cell = f"{values.mean():.4f}"
            if model != "anew" and len(values) == len(base):
                one = bootstrap({"difference": (values - base)[None]})["difference"]
                cell += f", {one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
            cells.append(cell)
        seconds = sum(one["cpu_seconds"] for one in found)
        print(f"| {model} | {len(found)} | {' | '.join(cells)} | {seconds:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--user", default="user")
    parser.add_argument("--item", default="item")
    parser.add_argument("--time", default="timestamp")
    parser.add_argument("--days", type=float, default=7, help="of a period")
    parser.add_argument("--first", type=int, default=9, help="periods before the first night")
    parser.add_argument("--nights", type=int, default=4)
    parser.add_argument("--least", type=int, default=1, help="interactions of a user")
    parser.add_argument("--held-out", type=int, default=500, help="users of the first periods that show forgetting")
    parser.add_argument("--given", type=int, default=10, help="items of a new user that a model sees")
    parser.add_argument("--epochs", type=int, default=30, help="at most, of the run that validation stops")
    parser.add_argument("--warm", type=int, nargs="+", default=[1, 3], help="epochs of a warm start")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--again", action="store_true", help="judge the runs that are there anew")
    parser.add_argument("--table", action="store_true", help="only print the means of what is there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table:
        print_table(options.out / "nights.jsonl")
    else:
        run_nights(options)


if __name__ == "__main__":
    main()
