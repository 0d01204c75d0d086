"""Feedback: what was shown and what was taken, kept in a folder of Parquet files for the next training."""
