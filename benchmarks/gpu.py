"""What Palate costs on one GPU: every part in a process of its own, with a limit, in under 8 minutes together.

    python benchmarks/gpu.py --out gpu.json         # on the first GPU; `--parts training language-model` for some
    python benchmarks/gpu.py --small --device cpu   # minutes become seconds: that it runs, not how fast

| part | what |
|---|---|
| precision | the loss over a catalogue and its gradients: float32 and bfloat16 against float64 |
| training | epochs of sasrec on generated data of Amazon Beauty's size, with validation of all users |
| catalogue | steps of sampled softmax at 10 million items |
| evaluation | many users over a whole catalogue of 10 million items |
| search | the best of 10 million vectors: exact, and FAISS on the GPU where it is built for one |
| language-model | one step of fine-tuning and the scoring of candidates, by a LLaVA of 7 billion random weights |

A part prints what it finds at once, so that one that fails or meets its limit leaves what it has. The figures are JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Part -> seconds that it may take, all together less than 8 minutes.
LIMITS = {"precision": 40, "training": 80, "catalogue": 70, "evaluation": 90, "search": 60, "language-model": 130}


def run_part(name: str, device: str, small: bool) -> None:
    """Print the figures of one part, one line each."""
    module = "gpu_language_model" if name == "language-model" else "gpu_parts"
    part = getattr(importlib.import_module(module), name.replace("-", "_"))
    for facts in part(device, small):
        print(json.dumps(facts), flush=True)


def guarded(name: str, device: str, small: bool, limit: int) -> dict[str, Any]:
    """A part in a process of its own: its figures, how it ended, and how long it took."""
    command = [sys.executable, __file__, "--part", name, "--device", device, *(["--small"] if small else [])]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=limit, check=False)
        ended = "finished" if done.returncode == 0 else f"exit code {done.returncode}"
        output, errors = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        ended, output, errors = f"stopped after {limit} s", late.stdout or b"", late.stderr or b""
    figures = [json.loads(line) for line in output.decode().splitlines() if line.startswith("{")]
    facts = {"part": name, "ended": ended, "seconds": round(time.perf_counter() - began, 1), "figures": figures}
    return facts if ended == "finished" else {**facts, "error": errors.decode(errors="replace")[-2000:]}


def machine(device: str) -> dict[str, Any]:
    import torch

    facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "device": device}
    return {**facts, "name": torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    parser.add_argument("--part", choices=LIMITS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        run_part(options.part, options.device, options.small)
        return
    found = [machine(options.device)]
    print(json.dumps(found[0]), flush=True)
    for name in options.parts:
        found.append(guarded(name, options.device, options.small, LIMITS[name]))
        print(json.dumps(found[-1], indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1))
    if any(part["ended"] != "finished" for part in found[1:]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
