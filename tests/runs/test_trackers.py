"""Runs, tables and bundles at MLflow, whose local file store needs no server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worlds import ring

from palate.cli.track import track
from palate.errors import PalateError
from palate.runs.log import RunLog
from palate.runs.run import Run
from palate.runs.trackers import IDS, VARIABLE, tracker_names
from palate.storage.files import write_json
from palate.training.fit import train

mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny")
SETTINGS = {"ranker": {"dim": 8, "layers": 1, "heads": 1}, "trainer": {"epochs": 2, "tensorboard": False}}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file store."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Trains a tiny model on a dataset that is there afterwards."""
    data = ring(users=30, items=12)
    data.save(tmp_path / "data")

    def make(name: str = "run", **more: Any) -> Run:
        out, where = tmp_path / name, tmp_path / "data"
        return train(data, model="sasrec", out=out, settings=SETTINGS, dataset_path=where, **more)

    return make


def known(folder: Path) -> Any:
    """What MLflow knows of a run."""
    return mlflow.get_run(json.loads((folder / IDS).read_text())["mlflow"]["id"])


def history(folder: Path, metric: str) -> list[float]:
    return [one.value for one in mlflow.MlflowClient().get_metric_history(known(folder).info.run_id, metric)]


def files(folder: Path) -> set[str]:
    return {one.path for one in mlflow.MlflowClient().list_artifacts(known(folder).info.run_id)}


def test_a_run_is_tracked_while_it_trains(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mlflow")
    made = run()
    rows = [json.loads(line) for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert history(made.folder, "NDCG_at_10") == [row["NDCG@10"] for row in rows]
    there = known(made.folder)
    assert (there.info.run_name, there.info.status) == ("run", "FINISHED")
    assert there.data.params["trainer.epochs"] == "2"
    assert there.data.params["dataset.fingerprint"] == made.info["dataset"]["fingerprint"]
    assert {"run.json", "metrics.jsonl", "learning-curve.png"} <= files(made.folder)


def test_a_resumed_run_goes_on_at_its_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mlflow")
    first = {"step": 1, "loss": 3.0}
    log = RunLog(tmp_path, [], tensorboard=False)
    log.add(first)
    log.close()
    again = RunLog(tmp_path, [first], tensorboard=False)
    again.add({"step": 2, "loss": 2.0})
    again.close()
    assert history(tmp_path, "loss") == [3.0, 2.0]


def test_training_survives_its_tracker(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mlflow")

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("the server is gone")

    plain = mlflow.log_metrics
    monkeypatch.setattr(mlflow, "log_metrics", fail)
    with pytest.warns(UserWarning, match=r"the server is gone.*palate track .*run --to mlflow"):
        made = run()
    assert made.finished
    assert history(made.folder, "loss") == []
    monkeypatch.setattr(mlflow, "log_metrics", plain)
    monkeypatch.delenv(VARIABLE)
    track([made.folder], to="mlflow")
    assert len(history(made.folder, "loss")) == 2


def test_what_is_finished_is_sent(
    run: Callable[..., Run], palate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    made, table, bundle = run(), tmp_path / "table", tmp_path / "bundle"
    assert not (made.folder / IDS).exists()
    assert palate("evaluate", made.folder, "--ks", "5", "--out", table)[0] == 0
    assert palate("bundle", made.folder, "--out", bundle)[0] == 0
    code, out, err = palate("track", made.folder, table, bundle, "--to", "mlflow", "--with-model", "--json")
    assert code == 0, err
    sent = json.loads(out)["sent"]
    assert [one["kind"] for one in sent] == ["run", "table", "bundle"]
    assert len(history(made.folder, "loss")) == 2
    assert "model" in files(made.folder)
    client = mlflow.MlflowClient()
    figures = client.get_run(sent[1]["id"]).data.metrics
    (row,) = json.loads((table / "table.json").read_text())["models"]
    assert figures["run/ndcg_at_5"] == pytest.approx(row["metrics"]["ndcg@5"]["mean"])
    assert {"table.md", "chart.png"} <= {one.path for one in client.list_artifacts(sent[1]["id"])}
    assert [one.path for one in client.list_artifacts(sent[2]["id"], "bundle")]


def test_mistakes_are_refused_before_any_work(
    palate: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = palate("track", tmp_path, "--to", "mlflo")
    assert code == 2
    assert "no tracker 'mlflo'" in err
    assert "mlflow" in err
    code, _, err = palate("train", tmp_path / "data", "--model", "sasrec", "--out", tmp_path / "r", "--track", "wandbb")
    assert (code, "no tracker 'wandbb'" in err) == (2, True)
    monkeypatch.setattr("palate.runs.trackers.find_spec", lambda name: None)
    with pytest.raises(PalateError, match="needs its package") as error:
        tracker_names("wandb")
    assert "palate[wandb]" in str(error.value.remedy)


def test_an_unfinished_run_is_not_sent(run: Callable[..., Run], palate: Callable[..., tuple[int, str, str]]) -> None:
    made = run()
    write_json(made.folder / "run.json", {**made.info, "finished": False})
    code, _, err = palate("track", made.folder, "--to", "mlflow")
    assert (code, "is not finished" in err) == (2, True)
    assert not (made.folder / IDS).exists()
