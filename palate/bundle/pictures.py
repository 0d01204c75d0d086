"""Pictures of a bundle: decoded with care, made small, written anew, so that nothing but pixels comes along."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, features

from palate.data.images import open_image
from palate.errors import PalateError
from palate.progress import track

FOLDER = "images"
LARGEST = 512
_QUALITY = 82
_A_FOLDER = 1000  # file systems and hubs dislike folders of very many files


def copy_pictures(pictures: Iterable[tuple[int, Path]], bundle: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Write the pictures of items into ``bundle/images``, at most 512 pixels a side, as WebP (or JPEG).

    Args:
        pictures: item index and the path of its picture.

    Returns:
        Item index -> name within the bundle, and item index -> why its picture was left out.
    """
    jobs = list(pictures)
    names: dict[int, str] = {}
    reasons: dict[int, str] = {}

    def one(job: tuple[int, Path]) -> tuple[int, str | PalateError]:
        index, path = job
        try:
            return index, write_picture(index, path, bundle)
        except PalateError as error:
            return index, error

    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="pictures") as pool:
        for index, made in track(pool.map(one, jobs), "Copying pictures", total=len(jobs)):
            if isinstance(made, PalateError):
                reasons[index] = made.message
            else:
                names[index] = made
    return names, reasons


def write_picture(index: int, path: Path, bundle: Path) -> str:
    """Write one picture under the item's index (a name of our own making); returns its name within the bundle.

    Raises:
        PalateError: the picture cannot be opened; see :func:`palate.data.images.open_image`.
    """
    image = open_image(path)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    kind, suffix = ("WEBP", "webp") if features.check("webp") else ("JPEG", "jpg")
    name = f"{FOLDER}/{index // _A_FOLDER:03d}/{index}.{suffix}"
    target = bundle / name
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, kind, quality=_QUALITY)
    return name
