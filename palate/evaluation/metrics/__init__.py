"""The metrics, one per file, and the table by which they are named."""

from __future__ import annotations

from palate.evaluation.metrics.base import Metric, measure, metric, parse_cut_off
from palate.registry import Registry

METRICS: Registry[Metric] = Registry(
    "metrics",
    {
        "recall": "palate.evaluation.metrics.recall:recall",
        "hitrate": "palate.evaluation.metrics.hitrate:hitrate",
        "ndcg": "palate.evaluation.metrics.ndcg:ndcg",
        "mrr": "palate.evaluation.metrics.mrr:mrr",
        "map": "palate.evaluation.metrics.average_precision:average_precision",
        "auc": "palate.evaluation.metrics.auc:auc",
        "coverage": "palate.evaluation.metrics.coverage:coverage",
        "novelty": "palate.evaluation.metrics.novelty:novelty",
        "diversity": "palate.evaluation.metrics.diversity:diversity",
        "serendipity": "palate.evaluation.metrics.serendipity:serendipity",
        "miscalibration": "palate.evaluation.metrics.miscalibration:miscalibration",
        "popularity-lift": "palate.evaluation.metrics.popularity_lift:popularity_lift",
        "gini": "palate.evaluation.metrics.gini:gini",
    },
)

__all__ = ["METRICS", "Metric", "measure", "metric", "parse_cut_off"]
