"""Cascades: a fast retriever proposes a few items, an expensive recommender orders them."""
