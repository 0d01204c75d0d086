"""Diagnostics of language models: the audit of answers in words, and the modality probe."""
