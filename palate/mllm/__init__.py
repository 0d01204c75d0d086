"""Multimodal LLM recommenders: summaries of items and users, fine-tuning, scoring (needs the extra ``mllm``)."""
