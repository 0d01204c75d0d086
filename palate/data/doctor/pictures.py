"""Pictures: every file is decoded, and what cannot be one, shows nothing or shows the same again is named."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from palate.console import agreeing, counted
from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, few, percent, those
from palate.data.images import inside, open_image
from palate.engines.base import Engine
from palate.engines.files import read_by
from palate.engines.local import LOCAL
from palate.errors import PalateError
from palate.storage.files import digest

TINY, HUGE = 32, 4096
BLANK = 3.0  # standard deviation of grey levels (0..255) under which nothing can be seen


@dataclass(frozen=True)
class _Seen:
    """What one file showed: an error, or the facts that the checks need."""

    name: str
    error: str | None = None
    side: tuple[int, int] = (0, 0)
    spread: float = 0.0
    pixels: str = ""
    kind: str = ""  # of the error: missing, outside or broken


def pictures(data: Dataset, threads: int | None = None, engine: Engine = LOCAL) -> list[Finding]:
    """Decode all pictures of the catalogue, in parallel threads (decoders release the interpreter's lock).

    Args:
        engine: whose workers decode.
    """
    names, root = data.catalogue.frame["image"].drop_nulls().to_list(), data.catalogue.root
    if not names:
        return []
    seen = read_by(engine, partial(_look, root), names, root, "Looking at pictures", threads)
    return [_unreadable(seen, data.catalogue.root), _blank(seen), _same(seen), _sizes(seen)]


def _look(root: Path, name: str) -> _Seen:
    try:
        path = inside(root, name) if name else None
    except PalateError as error:
        return _Seen(name, error=str(error), kind="outside")
    if path is None or not path.exists():
        return _Seen(name, error="does not exist", kind="missing")
    try:
        image = open_image(path)
    except PalateError as error:
        return _Seen(name, error=error.message, kind="broken")
    grey = image.convert("L").resize((64, 64)) if max(image.size) > 64 else image.convert("L")
    spread = float(np.asarray(grey, np.float32).std())
    if spread < BLANK:  # two colours of one brightness are not blank
        spread = float(np.asarray(image.resize((64, 64)), np.float32).std(axis=(0, 1)).max())
    return _Seen(name, side=image.size, spread=spread, pixels=digest(repr(image.size), image.tobytes()))


def _unreadable(seen: list[_Seen], root: Path) -> Finding:
    bad = [one for one in seen if one.error]
    if not bad:
        return Finding("unreadable-pictures", Level.OK, f"All {len(seen):,} pictures can be read.")
    kinds = {kind: sum(one.kind == kind for one in bad) for kind in ("missing", "outside", "broken")}
    words = {"missing": "do not exist", "outside": "lie outside of the image folder", "broken": "cannot be decoded"}
    counts = ", ".join(f"{count:,} {words[kind]}" for kind, count in kinds.items() if count)
    share = len(bad) / len(seen)
    are = agreeing(len(bad), "is", "are")
    text = f"{len(bad):,} of {len(seen):,} pictures ({percent(share)}) {are} no use: {counts}. The folder is {root}."
    # A path that leads out of the folder is an attack or a mistake; most files missing is a wrong folder.
    level = Level.ERROR if kinds["outside"] or share > 0.5 else Level.WARNING
    return Finding("unreadable-pictures", level, text, len(bad), share, few(f"{one.name}: {one.error}" for one in bad))


def _blank(seen: list[_Seen]) -> Finding:
    blank = [one for one in seen if not one.error and one.spread < BLANK]
    if not blank:
        return Finding("blank-pictures", Level.OK, "No picture is blank.")
    share = len(blank) / len(seen)
    text = f"{those(len(blank), 'picture', share, 'shows', 'show')} one even colour."
    return Finding("blank-pictures", Level.WARNING, text, len(blank), share, few(one.name for one in blank))


def _same(seen: list[_Seen]) -> Finding:
    groups: dict[str, list[str]] = defaultdict(list)
    for one in seen:
        if not one.error:
            groups[one.pixels].append(one.name)
    shared = sorted((names for names in groups.values() if len(names) > 1), key=lambda names: (-len(names), names))
    count = sum(len(names) for names in shared)
    if not count:
        return Finding("shared-pictures", Level.OK, "No two items show the same pixels.")
    share = count / len(seen)
    text = (
        f"{count:,} items ({percent(share)}) show the same pixels as another "
        f"({counted(len(shared), 'different picture')}; the commonest is shown by "
        f"{len(shared[0]):,}): placeholders, or one product under several ids?"
    )
    # One picture on many items is a "no image" sign that a model would take for a look.
    level = Level.WARNING if len(shared[0]) >= 5 or share >= 0.05 else Level.NOTE
    return Finding("shared-pictures", level, text, count, share, few(" = ".join(names[:4]) for names in shared))


def _sizes(seen: list[_Seen]) -> Finding:
    odd = [one for one in seen if not one.error and (min(one.side) < TINY or max(one.side) > HUGE)]
    if not odd:
        return Finding("picture-sizes", Level.OK, f"No picture is under {TINY} or over {HUGE} pixels on a side.")
    share = len(odd) / len(seen)
    text = f"{those(len(odd), 'picture', share, 'is', 'are')} under {TINY} or over {HUGE} pixels on a side."
    shown = few(f"{one.name}: {one.side[0]} x {one.side[1]}" for one in odd)
    return Finding("picture-sizes", Level.NOTE, text, len(odd), share, shown)
