"""Supervised fine-tuning of a multimodal LLM: stage 3 of MLLM-MSR (arXiv 2408.09698)."""
