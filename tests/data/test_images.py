"""Pictures of unknown origin: what is read, how, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.images import inside, open_image
from palate.errors import PalateError


def picture(width: int = 24, height: int = 16) -> Image.Image:
    """A picture whose left half is red and whose right half is blue, with a little noise so that it has content."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = (220, 20, 20)
    pixels[:, width // 2 :] = (20, 20, 220)
    pixels += np.random.default_rng(0).integers(0, 20, pixels.shape).astype(np.uint8)
    return Image.fromarray(pixels)


def refused(path: Path, word: str, **options: int) -> None:
    with pytest.raises(PalateError) as caught:
        open_image(path, **options)
    assert path.name in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_reads_common_formats_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.dat"
    picture().save(path, format=kind)
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.size == (24, 16)
    red, _, blue = image.getpixel((3, 8))
    assert red > 150 > blue


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "TGA", "EPS", "PDF"])
def test_refuses_other_formats_whatever_they_are_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture.png"
    picture().save(path, format=kind)
    refused(path, "picture")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_refuses_truncated_files(tmp_path: Path, kind: str, keep: float) -> None:
    whole = io.BytesIO()
    picture(64, 64).save(whole, format=kind)
    path = tmp_path / "cut.png"
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * keep)])
    refused(path, "picture")


def test_refuses_svg_html_and_text(tmp_path: Path) -> None:
    for name, content in {
        "a.png": '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "b.jpg": "<html><body>404 not found</body></html>",
        "c.png": "just words",
    }.items():
        path = tmp_path / name
        path.write_text(content)
        refused(path, "picture")


def test_refuses_polyglots(tmp_path: Path) -> None:
    whole = io.BytesIO()
    picture().save(whole, format="GIF")
    script = tmp_path / "script.gif"
    script.write_bytes(whole.getvalue() + b"<script>alert(1)</script>")
    refused(script, "more than a picture")

    archive = tmp_path / "archive.gif"
    archive.write_bytes(whole.getvalue())
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("payload.txt", "hello")
    refused(archive, "more than a picture")


def test_refuses_nothing_and_next_to_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    refused(empty, "empty")
    pixel = tmp_path / "pixel.gif"
    Image.new("RGB", (1, 1)).save(pixel)
    refused(pixel, "1 x 1")
    line = tmp_path / "line.png"
    Image.new("RGB", (400, 1)).save(line)
    refused(line, "400 x 1")
    refused(tmp_path / "absent.png", "does not exist")
    refused(tmp_path, "not a regular file")


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    refused(path, "not a regular file")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_000, 10_000, 60_000])
def test_refuses_decompression_bombs_before_decoding(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    refused(path, "pixels")


def test_the_limit_of_pixels_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "ok.png"
    picture().save(path)
    assert open_image(path, max_pixels=24 * 16).size == (24, 16)
    refused(path, "more than the 383", max_pixels=24 * 16 - 1)


def test_turns_by_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: turn a quarter clockwise to show
    path = tmp_path / "turned.jpg"
    picture().save(path, exif=exif)
    image = open_image(path)
    assert image.size == (16, 24)
    red, _, blue = image.getpixel((8, 3))
    assert red > 150 > blue


def test_lays_transparency_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((0, 0), (10, 20, 30, 255))
    clear.save(tmp_path / "rgba.png")
    assert open_image(tmp_path / "rgba.png").getpixel((5, 5)) == (255, 255, 255)
    assert open_image(tmp_path / "rgba.png").getpixel((0, 0)) == (10, 20, 30)
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "palette.gif", transparency=0)
    assert open_image(tmp_path / "palette.gif").getpixel((5, 5)) == (255, 255, 255)


def test_lays_sixteen_bit_transparency_on_white(tmp_path: Path) -> None:
    grey = np.zeros((8, 8), np.uint16)
    grey[0, 0] = 32768
    Image.fromarray(grey).save(tmp_path / "deep.png", transparency=0)
    assert open_image(tmp_path / "deep.png").getpixel((5, 5)) == (255, 255, 255)
    assert abs(open_image(tmp_path / "deep.png").getpixel((0, 0))[0] - 128) <= 1


def test_scales_sixteen_bit_pictures_instead_of_clipping(tmp_path: Path) -> None:
    grey = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    grey.save(tmp_path / "deep.png")
    assert abs(open_image(tmp_path / "deep.png").getpixel((4, 4))[0] - 128) <= 1
    dark = Image.fromarray(np.full((8, 8), 200, np.uint16))
    dark.save(tmp_path / "dark.png")
    assert open_image(tmp_path / "dark.png").getpixel((4, 4))[0] <= 1


def test_takes_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 250, 0))
    first.save(tmp_path / "moves.gif", save_all=True, append_images=[second])
    assert open_image(tmp_path / "moves.gif").getpixel((4, 4))[0] > 200


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/passwd", "C:\\x.png", "\\\\host\\x.png", "..\\x.png", "", "a\0b", "  "]
)
def test_inside_refuses_escapes(tmp_path: Path, name: str) -> None:
    with pytest.raises(PalateError, match="outside"):
        inside(tmp_path, name)


def test_inside_follows_links_only_within_the_root(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "real").mkdir()
    (root / "near").symlink_to(root / "real")
    (root / "far").symlink_to(elsewhere)
    (root / "loop").symlink_to(root / "loop")
    assert inside(root, "near/a.png") == root / "near" / "a.png"
    for name in ("far/a.png", "loop/a.png"):
        with pytest.raises(PalateError, match="outside"):
            inside(root, name)
    (tmp_path / "door").symlink_to(root)  # a root that is itself a link is the user's own choice
    assert inside(tmp_path / "door", "a.png") == tmp_path / "door" / "a.png"


def test_the_catalogue_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"], "image": ["a.png", "../b.png", None]})
    catalogue = Catalogue(frame, tmp_path)
    assert catalogue.image_path(1) == tmp_path / "a.png"
    assert catalogue.image_path(3) is None
    with pytest.raises(PalateError, match="outside"):
        catalogue.image_path(2)
