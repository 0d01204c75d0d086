"""Scoring: the log-odds of a few answers, in fp32, with shared prefixes read once."""
