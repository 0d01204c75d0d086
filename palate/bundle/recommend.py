"""Recommendations of a run or a bundle, perhaps with a retriever before it, opened by paths and options."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from palate.bundle.load import open_run_or_bundle
from palate.cascade.cascade import open_cascade
from palate.device import parse_device
from palate.rankers.recommend import Recommendations
from palate.recommender import Shard


def open_recommendations(
    run: Path,
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    allow: Sequence[str] | None = None,
    deny: Sequence[str] = (),
    fields: Sequence[str] = (),
    exclude_seen: bool = True,
    device: str = "cpu",
    retriever: Path | None = None,
    depth: int = 20,
    blend: float | None = None,
    warn: bool = False,
    shard: Shard | None = None,
) -> Recommendations:
    """Open what ``palate recommend`` answers with.

    Args:
        run: folder of a run or a bundle.
        only, without, allow, deny, fields, exclude_seen, shard: of :class:`.Recommendations`.
        retriever: a fast run that proposes ``depth`` items, which the run puts in order.
        blend: of :func:`palate.cascade.cascade.open_cascade`.
        warn: of a run that is not finished.

    Raises:
        PalateError: no run, or one that cannot answer.
    """
    device = parse_device(device)
    opened = open_run_or_bundle(run)
    fast = None if retriever is None else open_run_or_bundle(retriever)
    for one in [opened] if fast is None else [opened, fast]:
        if warn and not one.finished:
            print(f"Warning: {one.folder} is not finished; this is its best model so far.", file=sys.stderr)
    cascade = None
    if fast is not None:
        cascade = open_cascade(opened, fast, depth=depth, blend=blend, exclude_seen=exclude_seen, device=device)
    return Recommendations(
        opened,
        only=only,
        without=without,
        allow=allow,
        deny=deny,
        fields=fields,
        exclude_seen=exclude_seen,
        device=device,
        recommender=cascade,
        shard=shard,
    )
