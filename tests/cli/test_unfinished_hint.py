"""An interrupted run is refused with the command that finishes it, whichever began it."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.runs.run import Run


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["palate", "train", "data", "--model", "sasrec"], "the same `palate train ... --resume`"),
        (["__main__.py", "mllm", "sft", "data"], "the same `palate mllm sft ... --resume`"),
        (["palate", "mllm", "align", "runs/a"], "the same `palate mllm align ... --resume`"),
        (["palate", "align", "runs/a"], "the same `palate align ... --resume`"),
        (["palate", "compare", "recipe.toml"], "the command that began it and --resume"),
        (["train.py", "train"], "the command that began it and --resume"),
        (["palate"], "the command that began it and --resume"),
        ([], "the command that began it and --resume"),
        (None, "the command that began it and --resume"),
    ],
)
def test_the_hint_is_the_command_that_began_the_run(command: list[str] | None, told: str) -> None:
    run = Run(Path("runs/x"), {"environment": {"command": command}})
    assert str(run.unfinished()) == f"runs/x is not finished. Finish it with {told}."
    assert str(run.unfinished("has no trained model yet")).startswith("runs/x has no trained model yet. Finish")
