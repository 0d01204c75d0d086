"""RecTools 0.19's SASRec: seconds of a training epoch and of recommending to every user."""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()

    import pandas as pd
    from pytorch_lightning import Trainer
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    rows = []
    for line in (options.data / "user_sequence.txt").read_text().splitlines():
        user, *items = line.split()
        rows += [(user, item, place) for place, item in enumerate(items[:-1])]
    frame = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Datetime])
    frame[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(frame[Columns.Datetime], unit="D")
    frame[Columns.Weight] = 1.0
    dataset = Dataset.construct(frame)

    def trainer() -> Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        return Trainer(max_epochs=options.epochs, accelerator="cpu", enable_checkpointing=False, **quiet)

    model = SASRecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=64,
        session_max_len=50,
        loss="softmax",
        batch_size=options.batch,
        epochs=options.epochs,
        get_trainer_func=trainer,
        recommend_torch_device="cpu",
    )
    started = time.perf_counter()
    model.fit(dataset)
    fitted = time.perf_counter()
    model.recommend(frame[Columns.User].unique(), dataset, k=10, filter_viewed=False)
    facts = {
        "train_seconds_an_epoch": round((fitted - started) / options.epochs, 1),
        "recommend_seconds": round(time.perf_counter() - fitted, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
