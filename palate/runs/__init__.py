"""Runs: folders that hold trained models, how one is started or resumed, and what it logs."""
