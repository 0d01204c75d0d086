"""A store of summaries: a folder that grows by one line of JSON per summary and survives being killed.

::

    NAME/
      summaries.json   how all of them were made (model, prompts, options), their cost, counts of their faults
      summaries.jsonl  one per line: key, text, item or items, cost, faults
      missing.json     what failed in the last run, and why (only if something did)

A key is a hash of everything that decides the text: what is read, the prompt, the model, the length. What has changed
is therefore written anew by itself, and what has not is never requested again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from palate.errors import PalateError
from palate.mllm.backends.base import Reply
from palate.mllm.summaries.counts import WritingCounts
from palate.storage.exhausted import writing
from palate.storage.files import read_json, write_json

FACTS, ROWS, MISSING, _LOCK = "summaries.json", "summaries.jsonl", "missing.json", ".lock"
FORMAT = 1
Row = dict[str, Any]
# The facts are rewritten this often while work goes on; a killed run loses the cost of that time, and no summary.
_FACTS_EVERY_SECONDS = 5.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass
class Cost:
    """The cost of summaries.

    Attributes:
        requests: replies that were had, good or bad.
        failed: replies without a text.
        attempts: of all requests.
        prompt_tokens, new_tokens: read and written in all attempts, as far as the backend knows.
        seconds: wall-clock time of work, all requests side by side.
    """

    requests: int = 0
    failed: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0

    def count(self, reply: Reply, good: bool) -> None:
        self.requests += 1
        self.failed += not good
        self.attempts += reply.attempts
        self.prompt_tokens += reply.prompt_tokens
        self.new_tokens += reply.new_tokens

    def plus(self, other: Cost) -> Cost:
        mine, more = asdict(self), asdict(other)
        return Cost(**{name: round(mine[name] + more[name], 3) for name in mine})


def check_name(name: str) -> str:
    """The name of a store, if it can be that of a folder."""
    if not _NAME.fullmatch(name):
        raise PalateError(f"--name {name!r} is no name for a folder", "Use letters, digits, '.', '_' and '-'.")
    return name


def slug(text: str) -> str:
    """A model's name as part of a folder's.

    >>> slug("Qwen/Qwen2.5-VL-3B-Instruct"), slug("../..")
    ('Qwen-Qwen2.5-VL-3B-Instruct', 'model')
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")[:60] or "model"


def store_folder(dataset: Path | str, kind: str, name: str) -> Path:
    """Where a dataset keeps its summaries of ``items`` or ``users``."""
    return Path(dataset) / "summaries" / kind / check_name(name)


def read_facts(folder: Path) -> dict[str, Any]:
    """``summaries.json`` of a store.

    Raises:
        PalateError: the folder is no store, or its facts are damaged.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise PalateError(f"{folder} holds no summaries (it has no {FACTS})", "Write some with `palate summarise`.")
    facts = read_json(path)
    if not isinstance(facts, dict) or not isinstance(facts.get("made"), dict):
        raise PalateError(f"{path} is damaged", "Write the summaries again, under another --name.")
    if facts.get("format") != FORMAT:
        raise PalateError(
            f"{folder} has summary format {facts.get('format')}, this Palate reads {FORMAT}",
            "Write the summaries again, under another --name.",
        )
    backend = facts["made"].get("backend")
    if not isinstance(backend, dict) or not isinstance(backend.get("model"), str):
        raise PalateError(
            f"{path} is damaged: it does not say which model wrote", "Write the summaries again, under another --name."
        )
    return facts


def _cost_so_far(folder: Path, facts: dict[str, Any]) -> Cost:
    cost, names = facts.get("cost"), set(Cost.__dataclass_fields__)
    if isinstance(cost, dict) and set(cost) == names and all(type(value) in (int, float) for value in cost.values()):
        return Cost(**cost)
    raise PalateError(
        f"{folder / FACTS} is damaged: it does not say what its summaries have cost",
        f'Put "cost": {json.dumps(asdict(Cost()))} there, and the cost is counted from now on.',
    )


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a ``summaries.jsonl``, oldest first; a last line that was cut off is not one.

    Raises:
        PalateError: another line is no row, named by its number.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield _row(path, number, line)


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # broken JSON, broken UTF-8, lists in lists in lists
        row = None
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("key", "text")):
        raise PalateError(
            f"{path}, line {number}: not a summary", "Remove the line; what it held is written again when asked for."
        )
    return row


def rows_by_key(folder: Path) -> dict[str, Row]:
    """All rows of a store; of several with one key, the newest."""
    return {row["key"]: row for row in read_rows(Path(folder) / ROWS)}


def as_line(row: Row) -> bytes:
    """A row as ``summaries.jsonl`` has it."""
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


class SummaryStore:
    """A store that is being written; :meth:`open` makes it.

    Attributes:
        texts: summary by key.
        of_item: key of the newest summary by item id, for the rows that are of an item.
        faults: names of a text's faults by key, of the texts that were checked when they were written.
        cost: of this run alone.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], file: BinaryIO) -> None:
        self.folder, self.facts, self._file = folder, facts, file
        self.texts: dict[str, str] = {}
        self.of_item: dict[str, str] = {}
        self.faults: dict[str, list[str]] = {}
        self.cost = Cost()
        self._before = _cost_so_far(folder, facts)
        self._began = self._saved_at = time.monotonic()
        for row in read_rows(folder / ROWS):
            self._remember(row)

    @classmethod
    @contextmanager
    def open(cls, folder: Path, made: dict[str, Any], spec: dict[str, Any] | None = None) -> Iterator[SummaryStore]:
        """Open a store for writing, a new one if there is none.

        Args:
            made: how its summaries are made; ``kind`` is ``items`` or ``users``.
            spec: opens the backend again; stored beside ``made``, as ``origin``: it decides no text, and a folder may
                move.

        Raises:
            PalateError: somebody else is writing it, or it was made in another way.
        """
        from filelock import FileLock, Timeout

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK)
        try:
            # The system lets go of it when the process ends, however it ends.
            lock.acquire(timeout=0)
        except Timeout:
            raise PalateError(
                f"another process is writing {folder}", "Wait until it is done, or give this one another --name."
            ) from None
        try:
            facts = _facts_for(folder, made)
            facts |= {} if spec is None else {"origin": spec}
            _mend(folder / ROWS)
            with writing(folder), (folder / ROWS).open("ab") as file:
                store = cls(folder, facts, file)
                try:
                    yield store
                finally:
                    store.save_facts()
        finally:
            lock.release()

    def add(self, row: Row) -> None:
        """Write a row; when this returns it outlives the process."""
        self._file.write(as_line(row))
        self._file.flush()
        self._remember(row)

    def spent(self, reply: Reply, good: bool) -> None:
        """Count what a reply has cost."""
        self.cost.count(reply, good)
        self.cost.seconds = round(time.monotonic() - self._began, 3)
        if time.monotonic() - self._saved_at > _FACTS_EVERY_SECONDS:
            self.save_facts()

    def save_facts(self, **more: Any) -> None:
        """Write ``summaries.json`` with the cost and the counts so far."""
        self._saved_at = time.monotonic()
        self.facts = {**self.facts, **more, "cost": asdict(self.total), "summaries": len(self.texts)}
        self.facts["writing"] = self.writing.as_json()
        write_json(self.folder / FACTS, self.facts)

    @property
    def writing(self) -> WritingCounts:
        """How many texts are distinct, and how many have which fault."""
        return WritingCounts.of(self.texts, self.faults)

    @property
    def total(self) -> Cost:
        """What all runs have cost, up to the last reply."""
        return self._before.plus(self.cost)

    def save_missing(self, reasons: dict[str, int], missing: list[Row]) -> None:
        """Write ``missing.json``, or remove it where nothing is missing."""
        path = self.folder / MISSING
        if missing:
            write_json(path, {"reasons": reasons, "missing": missing})
        else:
            path.unlink(missing_ok=True)

    def _remember(self, row: Row) -> None:
        self.texts[row["key"]] = row["text"]
        if isinstance(faults := row.get("faults"), list):  # stores of earlier versions have none
            self.faults[row["key"]] = faults
        if "item" in row:
            self.of_item[str(row["item"])] = row["key"]


def _facts_for(folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    """The facts of the store, which must have been made in the same way; a new store's otherwise."""
    if not (folder / FACTS).is_file():
        if (folder / ROWS).is_file():
            raise PalateError(f"{folder} has lost its {FACTS}", "Choose another --name, or remove the folder.")
        facts: dict[str, Any] = {"format": FORMAT, "made": made, "cost": asdict(Cost()), "summaries": 0}
        write_json(folder / FACTS, facts)
        return facts
    facts = read_facts(folder)
    differing = [name for name in {**facts["made"], **made} if facts["made"].get(name) != made.get(name)]
    if differing:
        name = differing[0]
        raise PalateError(
            f"the summaries in {folder} were made with another {name.replace('_', ' ')} "
            f"({_as_words(facts['made'].get(name))} instead of {_as_words(made.get(name))})",
            "Choose another --name for these.",
        )
    return facts


def _as_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _mend(path: Path) -> None:
    """Take away a last line that was cut off, so that the next row starts a line."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            block = file.read(end - start)
            if (place := block.rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
        file.truncate(end)
