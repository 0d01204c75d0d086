"""Opens pictures that are not trusted: a few formats, by content, within bounds, or one clear refusal."""

from __future__ import annotations

import io
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from palate.errors import PalateError

# Decoders that are common in shops and well tested; the content decides, not the file's ending.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 1024 * 1024
MIN_SIDE = 2
# What a browser, an interpreter or an archiver would act on if such a file were served as it is.
_ACTIVE = (b"<script", b"<svg ", b"<svg>", b"<html", b"<!doctype html", b"<?php", b"%pdf-", b"pk\x05\x06")
_ENDS = 1024


def open_image(path: Path | str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture of unknown origin: upright, RGB, transparency laid on white, first frame of an animation.

    Only JPEG, PNG, WebP, GIF and BMP are tried, whatever the file is called. The size is read from the header
    and checked before any pixel is decoded.

    Args:
        max_pixels: Width x height above which the picture is refused (a decompression bomb).

    Raises:
        PalateError: the file is missing, no regular file, empty, too large, of another kind, also something else
            (a polyglot), smaller than 2 pixels on a side, truncated or broken. The message names it.
    """
    path = Path(path)
    data = _read(path)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(path, image.size, max_pixels)
            image.load()
            # Turning by EXIF comes first: a conversion drops the tag.
            return _rgb(ImageOps.exif_transpose(image))
    except PalateError:
        raise
    except UnidentifiedImageError:
        raise PalateError(
            f"{path} is no picture that can be read", f"Convert it to one of: {', '.join(FORMATS)}."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PalateError(f"{path} would decode to too many pixels", "Make the picture smaller.") from None
    except (
        Exception
    ) as error:  # decoders raise nearly anything on hostile bytes (struct.error, KeyError, zlib.error ...)
        raise PalateError(f"{path} is a broken picture ({error})", "Replace the file.") from None


def _read(path: Path) -> bytes:
    """The file's bytes, once, so that what is checked is what is decoded."""
    if not path.exists():
        raise PalateError(f"{path} does not exist", "Check the catalogue's image column.")
    if not path.is_file():  # a folder, a pipe or a device would hang or never end
        raise PalateError(f"{path} is not a regular file", "Check the catalogue's image column.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PalateError(f"{path} cannot be read ({error.strerror})", "Check its permissions.") from None
    if not data:
        raise PalateError(f"{path} is empty", "Replace the file.")
    if len(data) > MAX_BYTES:
        raise PalateError(f"{path} is larger than {MAX_BYTES >> 20} MiB", "Make the picture smaller.")
    ends = (data[:_ENDS] + b"\0" + data[-_ENDS:]).lower()
    for mark in _ACTIVE:
        if mark in ends:
            shown = mark.decode("ascii", "replace").strip()
            raise PalateError(f"{path} holds more than a picture ({shown!r})", "Save it again as a plain PNG or JPEG.")
    return data


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise PalateError(f"{path} is {width} x {height} pixels: nothing to see", "Replace the file.")
    if width * height > max_pixels:
        raise PalateError(
            f"{path} is {width} x {height} pixels, more than the {max_pixels:,} allowed", "Make the picture smaller."
        )


def _rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, the ground of most product pictures."""
    if image.mode.startswith("I"):  # 16 bits a channel (PNG): convert() would clip, not scale
        wide = np.asarray(image, np.int64)
        if (clear := image.info.get("transparency")) is not None:
            wide = np.where(wide == clear, 65535, wide)
        return Image.fromarray((np.clip(wide, 0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def inside(root: Path | str, name: str) -> Path:
    """The path ``root / name``, refused if it leaves ``root`` by ``..``, an absolute path or a symbolic link.

    The file itself need not exist.

    >>> inside("pictures", "mugs/7.png").as_posix()
    'pictures/mugs/7.png'
    >>> inside("pictures", "../secret.png")
    Traceback (most recent call last):
        ...
    palate.errors.PalateError: the picture '../secret.png' lies outside of pictures. ...
    """
    root = Path(root)
    windows = PureWindowsPath(name)  # also knows 'C:' and '\\', which are no separators elsewhere
    escapes = not name.strip() or "\0" in name or Path(name).is_absolute() or bool(windows.drive or windows.root)
    if not escapes and ".." not in windows.parts:
        path = root / name
        try:
            if path.resolve().is_relative_to(root.resolve()):
                return path
        except (OSError, RuntimeError):  # a loop of links
            pass
    raise PalateError(f"the picture {name!r} lies outside of {root}", "Give image paths relative to the image folder.")
