"""MovieLens: 100K (``u.data``), 1M and 10M (``ratings.dat``), 20M, 25M, 32M and latest (``ratings.csv``)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from palate.data.readers.base import ReaderOptions, Source
from palate.data.readers.pictures import pictures_of
from palate.data.readers.text import Delimited, read_lines, scan_delimited, unreadable
from palate.errors import PalateError

PLOTS = "plots.csv"
_NAMES = ("user", "item", "weight", "timestamp")
# The published logs, each with the file that describes its films.
_FILMS_OF = {"u.data": "u.item", "ratings.dat": "movies.dat", "ratings.csv": "movies.csv"}
_YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
# The order of the flags in u.item, as u.genre gives it.
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]


class MovieLens:
    """Every published layout of MovieLens, with ``posters/<movie id>.jpg`` and ``plots.csv`` if they are there."""

    takes: ClassVar[frozenset[str]] = frozenset()

    def read(self, source: Path, options: ReaderOptions) -> Source:
        log = _log_of(source)
        source, films = log.parent, log.with_name(_FILMS_OF[log.name])
        columns = {name: name for name in _NAMES}
        if log.name == "u.data":
            table = scan_delimited(log, "\t", names=_NAMES, quoted=False)
        elif log.name == "ratings.dat":
            table = _double_colons(log)
        else:
            table = scan_delimited(log, ",")
            columns = {"user": "userId", "item": "movieId", "weight": "rating", "timestamp": "timestamp"}
        files = [log]
        catalogue = None
        if films.is_file():
            catalogue = _READ_FILMS[films.name](films)
            files.append(films)
        if (source / PLOTS).is_file():
            plots = _plots(source / PLOTS)
            catalogue = plots if catalogue is None else _enrich(catalogue, plots)
            files.append(source / PLOTS)
        images, root = pictures_of(source, options.images, "posters")
        return Source(
            interactions=table.interactions(columns),
            files=files,
            catalogue=catalogue,
            images=images,
            root=root,
            time_unit="s",
            explain=lambda row: table.explain(row, columns),
            locate=table.at,
        )


def _log_of(source: Path) -> Path:
    """The log that is meant: a file of one of the published names, or the first of them in a folder.

    Raises:
        PalateError: another file, such as a published training part, or a folder without any.
    """
    if source.is_file():
        if source.name not in _FILMS_OF:
            raise PalateError(
                f"{source} is none of u.data, ratings.dat and ratings.csv, which --reader movielens reads",
                "Name the folder; read a part such as u1.base by --reader table --no-header --columns user=1,item=2.",
            )
        return source
    for name in _FILMS_OF:
        if (source / name).is_file():
            return source / name
    raise PalateError(
        f"{source} has none of u.data, ratings.dat and ratings.csv",
        "Expected the unpacked folder of a MovieLens archive.",
    )


def _double_colons(path: Path) -> Delimited:
    """``user::item::rating::time``: the separator is two characters wide, so the cells are cut from lines."""
    lines = scan_delimited(path, "\x01", names=["line"], quoted=False)
    cells = pl.col("line").str.split_exact("::", 3).struct.rename_fields(list(_NAMES)).struct.unnest()
    frame = lines.numbered.select(lines.index, cells)
    filled = [pl.when(pl.col(name) != "").then(pl.col(name)) for name in _NAMES]
    return replace(lines, numbered=frame.with_columns(filled))


def _title(text: str) -> tuple[str | None, int | None]:
    """``"Heat (1995)"`` -> title and year; the year is a field of its own, so that it can be left out."""
    match = _YEAR.search(text)
    title = text[: match.start()].strip() if match else text.strip()
    return title or None, int(match[1]) if match else None


def _films(rows: list[tuple[str, str, list[str]]]) -> pl.DataFrame:
    titles = [_title(title) for _, title, _ in rows]
    return pl.DataFrame(
        {
            "item_id": [item for item, _, _ in rows],
            "title": [title for title, _ in titles],
            "year": [year for _, year in titles],
            "genres": [genres or None for _, _, genres in rows],
        },
        schema={"item_id": pl.String, "title": pl.String, "year": pl.Int32, "genres": pl.List(pl.String)},
    )


def _u_item(path: Path) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("|")
        if not line.strip():
            continue
        if len(cells) != 5 + len(GENRES_100K):
            raise PalateError(
                f"{path}, row {number}: {len(cells)} cells, not {5 + len(GENRES_100K)}", "Expected the u.item of 100K."
            )
        flags = zip(GENRES_100K, cells[5:], strict=True)
        title = "" if cells[1] == "unknown" else cells[1]
        rows.append((cells[0], title, [name for name, flag in flags if flag == "1" and name != "unknown"]))
    return _films(rows)


def _movies_dat(path: Path) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        cells = line.split("::")
        if len(cells) < 3:
            raise PalateError(f"{path}, row {number}: not of the form id::title::genres", "Correct the row.")
        rows.append((cells[0], "::".join(cells[1:-1]), _genres(cells[-1])))
    return _films(rows)


def _movies_csv(path: Path) -> pl.DataFrame:
    table = scan_delimited(path, ",")
    table.require(["movieId", "title", "genres"])
    try:
        frame = table.frame.collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
    columns = [frame[name].fill_null("").to_list() for name in ("movieId", "title", "genres")]
    return _films([(item, title, _genres(genres)) for item, title, genres in zip(*columns, strict=True)])


def _genres(text: str) -> list[str]:
    names = [name.strip() for name in text.split("|")]
    return [name for name in names if name and not name.startswith("(no genres")]


_READ_FILMS = {"u.item": _u_item, "movies.dat": _movies_dat, "movies.csv": _movies_csv}


def _plots(path: Path) -> pl.DataFrame:
    """``plots.csv``: item_id and any of title, year, genres (by commas), director, plot."""
    table = scan_delimited(path, ",")
    table.require(["item_id"])
    try:
        frame = table.frame.collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(path, error) from None
    shapes: dict[str, Any] = {
        "title": pl.col("title"),
        "year": pl.col("year").cast(pl.Int32, strict=False),
        "genres": pl.col("genres").str.split(",").list.eval(pl.element().str.strip_chars()),
        "director": pl.col("director"),
        "plot": pl.col("plot"),
    }
    return frame.select("item_id", *(shape for name, shape in shapes.items() if name in frame.columns))


def _enrich(films: pl.DataFrame, plots: pl.DataFrame) -> pl.DataFrame:
    """The films with director and plot; title, year and genres from ``plots.csv`` only where MovieLens has none."""
    plots = plots.unique("item_id", keep="first", maintain_order=True)
    frame = films.join(plots, on="item_id", how="full", coalesce=True, suffix="__plots", maintain_order="left_right")
    both = [name for name in films.columns if f"{name}__plots" in frame.columns]
    return frame.with_columns(pl.coalesce(name, f"{name}__plots") for name in both).drop(
        f"{name}__plots" for name in both
    )
