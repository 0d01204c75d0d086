"""Pretraining of the embedded language models on generated catalogues, whose truth is known."""
