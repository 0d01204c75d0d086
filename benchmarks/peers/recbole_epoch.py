"""RecBole 1.2.1's SASRec: seconds of training epochs and of a full-ranking validation."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    options = parser.parse_args()

    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        atomic = root / "log" / "log.inter"
        atomic.parent.mkdir()
        lines = ["user_id:token\titem_id:token\ttimestamp:float"]
        for line in (options.data / "user_sequence.txt").read_text().splitlines():
            user, *items = line.split()
            lines += [f"{user}\t{item}\t{place}" for place, item in enumerate(items)]
        atomic.write_text("\n".join(lines) + "\n")
        settings = {
            "data_path": folder,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": 50,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_size": 64,
            "inner_size": 256,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "metrics": ["NDCG"],
            "topk": [10],
            "valid_metric": "NDCG@10",
            "train_batch_size": options.batch,
            "eval_batch_size": 2048,
            "use_gpu": False,
            "show_progress": False,
            "checkpoint_dir": str(root / "saved"),
        }
        config = Config(model="SASRec", dataset="log", config_dict=settings)
        init_seed(config["seed"], True)
        train, valid, _ = data_preparation(config, create_dataset(config))
        trainer = Trainer(config, SASRec(config, train.dataset))
        for epoch in range(options.epochs):
            started = time.perf_counter()
            trainer._train_epoch(train, epoch)
            trained = time.perf_counter()
            result = trainer.evaluate(valid, load_best_model=False)
            row = {
                "epoch": epoch + 1,
                "train_seconds": round(trained - started, 1),
                "eval_seconds": round(time.perf_counter() - trained, 2),
                "valid_ndcg@10": result["ndcg@10"],
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
