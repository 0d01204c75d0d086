"""Runs: folders that hold trained models, how one is started or resumed, and what it logs."""

# Commands that finish a run which they began, with --resume. A comparison finishes its own.
RESUMABLE = ("train", "align", "attach", "blend", "mllm sft", "mllm align")
