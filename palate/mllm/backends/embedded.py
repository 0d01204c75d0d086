"""The model that Palate brings along, in this process: no hub, no server, no account."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

from palate.errors import PalateError, suggest
from palate.mllm.backends.local import LocalBackend
from palate.mllm.backends.local_spec import open_local
from palate.mllm.lm.embedded import EMBEDDED_MODELS


@wraps(open_local, assigned=())  # the same options
def open_embedded(model: str | None = None, **options: Any) -> LocalBackend:
    """Open an embedded model by its name; None: ``embedded``.

    Raises:
        PalateError: another model.
    """
    name = model or EMBEDDED_MODELS[0]
    if name not in EMBEDDED_MODELS:
        remedy = "For a folder, use --backend local." if Path(name).is_dir() else suggest(name, EMBEDDED_MODELS)
        raise PalateError(f"'{name}' is no embedded model", remedy)
    return open_local(name, **options)
