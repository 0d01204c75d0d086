"""From a log to recommendations in a bucket, against a server that speaks S3."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from cli_helpers import Shell
from remote_helpers import machine, names, write

from palate.storage.remote import local
from palate.storage.remote.store import UNFINISHED

SMALL = ("--set", "ranker.dim=8", "--set", "ranker.layers=1", "--set", "trainer.tensorboard=false")
BUCKET = "s3://shop"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a store in memory."""
    for name in ("s3fs", "moto", "flask", "flask_cors"):
        pytest.importorskip(name, reason="the tests of S3 need s3fs and moto[s3] with flask and flask-cors")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    found = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    yield f"http://{host}:{port}"
    found.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with a log and a catalogue, reached by the variables that the store's own tools read."""
    import s3fs

    machine(monkeypatch, tmp_path / "cache")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    if files.exists(BUCKET):
        files.rm(BUCKET, recursive=True)
    files.mkdir(BUCKET)
    rows = [(f"u{u}", f"i{(u + s) % 12}", 10**9 + s) for u in range(30) for s in range(6)]
    log = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"Thing {n}" for n in range(12)]})
    write(f"{BUCKET}/raw", **{"log.csv": log.write_csv(), "items.csv": items.write_csv()})
    return BUCKET


def test_from_a_log_to_recommendations(
    palate: Shell, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run = f"{bucket}/data/shop", f"{bucket}/runs/sasrec"
    read = ("--reader", "table", "--columns", "user=user,item=item,timestamp=time")
    done = palate("prepare", f"{bucket}/raw/log.csv", *read, "--catalogue", f"{bucket}/raw/items.csv", "--out", data)
    assert done.code == 0, done.err
    assert f"Written to {data}" in done.out
    assert json.loads(local(f"{data}/manifest.json").read_text())["image_root"] == f"{bucket}/raw"
    assert palate("encode", data, "--lexical", "--fields", "title").code == 0
    done = palate("train", data, "--model", "sasrec", "--epochs", 1, *SMALL, "--out", run)
    assert f"Run: {run}  (next: palate evaluate {run})" in done.out
    machine(monkeypatch, tmp_path / "another")
    assert json.loads(palate("evaluate", run, "--out", f"{bucket}/table", "--json").out)["out"] == f"{bucket}/table"
    done = palate("bundle", run, "--table", f"{bucket}/table", "--out", f"{bucket}/bundle")
    assert done.code == 0, done.err
    done = palate("recommend", f"{bucket}/bundle", "--history", "i1", "--k", 2, "--json")
    assert len(json.loads(done.out)["items"]) == 2
    done = palate("recommend", run, "--all", "--out", f"{bucket}/recs", "--json")
    assert names(f"{bucket}/recs") == ["_SUCCESS", "part-00000.parquet"]
    everything = names(bucket)
    assert "data/shop/features/lexical/store.json" in everything
    assert not [name for name in everything if UNFINISHED in name or "_WRITABLE" in name]
    write(f"{bucket}/raw", **{"log.csv": "user,item,time\nu,i,1\n"})
    assert local(f"{bucket}/raw/log.csv").read_text() == "user,item,time\nu,i,1\n"


def test_mistakes_are_one_line(palate: Shell, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = f"{bucket}/raw/log.csv"
    words = ("prepare", log, "--reader", "table", "--columns", "user=user,item=item,timestamp=time", "--out")
    for done, problem in [
        (palate("info", f"{bucket}/nothing"), f"Error: {bucket}/nothing is not there. Check the address."),
        (palate("info", "s3://no-such-bucket/x"), "Error: s3://no-such-bucket/x is not there. Check the address."),
        (
            palate(*words, "s3://no-such-bucket/data"),
            "Error: s3://no-such-bucket/data cannot be written: there is no such bucket or folder.",
        ),
    ]:
        assert done.code == 2
        assert done.err.startswith(problem)
        assert "Traceback" not in done.err
    import s3fs

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    done = palate("info", log)
    assert "NoCredentialsError" in done.err
    assert "such as AWS_ACCESS_KEY_ID or ~/.aws/credentials" in done.err
