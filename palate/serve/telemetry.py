"""A service's Prometheus metrics, and its log: one structured line per request."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "palate_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "palate_request_seconds", "Time from request to answer.", ("route",), buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.batches = Histogram(
            "palate_batch_size", "Requests that a model answered at once.", ("model",),
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=self.registry,
        )  # fmt: skip
        self.unknown = Counter(
            "palate_unknown_items", "Item ids in requests that the model does not know.", ("model",),
            registry=self.registry,
        )  # fmt: skip
        self.reloads = Counter("palate_reloads", "Attempts to load new bundles.", ("outcome",), registry=self.registry)
        self.models = Gauge("palate_models", "Models that answer.", registry=self.registry)
        self.rules_reloads = Counter(
            "palate_rules_reloads", "Attempts to read the business rules.", ("outcome",), registry=self.registry
        )
        self.rules_broken = Gauge(
            "palate_rules_broken", "1 while the file of rules is broken and older ones go on.", registry=self.registry
        )
        self.rules_seconds = Gauge(
            "palate_rules_read_seconds", "Unix time at which the rules in force were read.", registry=self.registry
        )
        self.rules_items = Gauge(
            "palate_rules_items_left", "Items that the rules let a model recommend.", ("model",), registry=self.registry
        )
        self.rules_unmatched = Gauge(
            "palate_rules_without_effect", "Items and conditions in the rules that mean nothing to a model.",
            ("model",), registry=self.registry,
        )  # fmt: skip
        self.log: Any = structlog.get_logger("palate.serve")

    def batch(self, model: str, size: int) -> None:
        self.batches.labels(model).observe(size)

    def text(self) -> bytes:
        """Everything in the format that Prometheus reads."""
        return generate_latest(self.registry)


def configure_logs(level: str, *, json: bool) -> None:
    """One line per event on stderr: JSON for machines, or a readable form for people; uvicorn's own words too."""
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    server = logging.getLogger("uvicorn.error")
    server.handlers, server.propagate = [_Forward()], False
    server.setLevel(logging.WARNING)


class _Forward(logging.Handler):
    """Hands what a library logs to our log, so that all lines have one form."""

    def emit(self, record: logging.LogRecord) -> None:
        log: Any = structlog.get_logger("uvicorn")
        log.log(record.levelno, record.getMessage().partition("\n")[0], exc_info=record.exc_info)
