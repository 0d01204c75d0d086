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
        self.answers = Counter("palate_answers", "Answers that were shown.", ("model",), registry=self.registry)
        self.shown = Counter("palate_items_shown", "Items of these answers.", ("model",), registry=self.registry)
        self.taken = Counter(
            "palate_items_taken", "Items that feedback says were taken.", ("model", "kind"), registry=self.registry
        )
        self.answers_taken = Counter(
            "palate_answers_taken", "Answers of which something was taken.", ("model",), registry=self.registry
        )
        self.click_through = Gauge(
            "palate_click_through", "Share of the newest answers of this process of which something was taken.",
            ("model",), registry=self.registry,
        )  # fmt: skip
        self.history_lengths = Histogram(
            "palate_history_length", "Items of the histories that were sent.", ("model",),
            buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500), registry=self.registry,
        )  # fmt: skip
        self.history_items = Counter(
            "palate_history_items", "Items of these histories, by whether the model knows them.", ("model", "known"),
            registry=self.registry,
        )  # fmt: skip
        self.shown_new = Counter(
            "palate_items_shown_new", "Items shown that had no interactions in training.", ("model",),
            registry=self.registry,
        )  # fmt: skip
        self.shown_tenths = Counter(
            "palate_items_shown_by_popularity",
            "Items shown by tenths of the interactions of training; tenth 1 has the most popular items.",
            ("model", "tenth"), registry=self.registry,
        )  # fmt: skip
        self.popularity_shift = Gauge(
            "palate_popularity_shift",
            "Population stability index of these tenths among items shown lately, against training.",
            ("model",), registry=self.registry,
        )  # fmt: skip
        self.feedback_rows = Counter(
            "palate_feedback_rows", "Rows of feedback on the disk.", ("event",), registry=self.registry
        )
        self.feedback_errors = Counter(
            "palate_feedback_errors", "Times that feedback could not be written.", registry=self.registry
        )
        self.feedback_lost = Counter(
            "palate_feedback_lost", "Items shown that were not kept, as too much waited.", registry=self.registry
        )
        self.feedback_waiting = Gauge(
            "palate_feedback_waiting", "Events that are not on the disk yet.", registry=self.registry
        )
        self.log: Any = structlog.get_logger("palate.serve")

    def batch(self, model: str, size: int) -> None:
        self.batches.labels(model).observe(size)

    def text(self) -> bytes:
        """Everything in the format that Prometheus reads."""
        return generate_latest(self.registry)


def configure_logs(level: str, *, json: bool) -> None:
    """One line per event on stderr: JSON for machines, or a readable form for people; uvicorn's own words too."""
    colours = sys.stderr.isatty()
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=colours)
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
