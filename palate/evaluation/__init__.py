"""Fair comparison: ranks, metrics, candidates, slices and statistics, for anything that is a Recommender."""
