"""Experiments: recipes, searches and comparisons, each run in a process of its own."""
