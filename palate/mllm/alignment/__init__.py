"""Preference optimisation of a fine-tuned multimodal LLM: HaNoRec (arXiv 2511.18740), DPO and their relatives."""
