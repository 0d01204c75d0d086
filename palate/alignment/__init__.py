"""Alignment of rankers on preferences: RoDPO (arXiv 2603.29259) and its relatives."""
