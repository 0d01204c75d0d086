"""Pictures as they are served: decoded with care, made small, and written anew, so that nothing else comes along."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from pathlib import Path

from PIL import Image

from palate.data.images import open_image

TYPE = "image/webp"
# Sizes are rounded up to these, so that strangers cannot fill the cache with a picture at every size.
SIDES = (64, 128, 256, 512, 1024, 2048)


class Thumbnails:
    """Small pictures by path and size; the most recently requested are kept.

    Args:
        side: the longest side in pixels that is served.
        room: bytes kept.
    """

    def __init__(self, side: int, room: int) -> None:
        self.side, self.room = side, room
        self._cache: OrderedDict[tuple[str, int, int], tuple[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, path: Path, side: int | None = None) -> tuple[str, bytes]:
        """The tag (a hash of the content) and the bytes of a WebP picture at most ``side`` pixels long.

        Raises:
            PalateError: no picture, or one that is not to be trusted.
        """
        longest = min(next((one for one in SIDES if one >= (side or self.side)), SIDES[-1]), self.side)
        key = (str(path), path.stat().st_mtime_ns if path.is_file() else 0, longest)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        made = _webp(path, longest)
        with self._lock:
            if key not in self._cache:
                self._cache[key] = made
                self._bytes += len(made[1])
            while self._bytes > self.room:
                self._bytes -= len(self._cache.popitem(last=False)[1][1])
        return made


def _webp(path: Path, side: int) -> tuple[str, bytes]:
    image = open_image(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=82, method=2)
    data = out.getvalue()
    return hashlib.sha256(data).hexdigest()[:16], data
