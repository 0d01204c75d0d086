"""Where what can be made again is kept between calls."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Folder for what can be made again: ``PALATE_CACHE``, else ``~/.cache/palate``."""
    configured = os.environ.get("PALATE_CACHE")
    base = Path(configured) if configured else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "palate"
    return base.expanduser()
