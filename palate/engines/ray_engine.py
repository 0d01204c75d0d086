"""The engine of a Ray cluster: workers are actors, each with a model of its own."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from palate.console import print_note
from palate.device import parse_device
from palate.engines.base import Engine, Piece, Result, Task, Workers
from palate.engines.ray_cluster import connect, require_ray
from palate.engines.ray_pool import RayPool
from palate.engines.ray_training import train_together
from palate.engines.ray_worker import RayWorker, versions, whole_paths
from palate.errors import PalateError


class RayEngine(Engine):
    """Does pieces on a Ray cluster; lost ones are done again by another worker.

    Args:
        address: of the cluster; see :func:`palate.engines.ray_cluster.connect`.
        workers: how many; by default as many as the cluster has CPUs (or GPUs) for.
        gpus_per_worker: share of a GPU that each worker reserves; 0: it sees none.
        cpus_per_worker: CPUs that each worker reserves, and threads that it uses.

    Raises:
        PalateError: Ray is not installed, or an option is out of its range.
    """

    in_process: ClassVar[bool] = False
    restarts: ClassVar[bool] = True

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float = 0.0,
        cpus_per_worker: int = 1,
    ) -> None:
        if (workers is not None and workers < 1) or cpus_per_worker < 1:
            raise PalateError("--workers and --cpus-per-worker are at least 1", "Leave them out, or give more.")
        if gpus_per_worker < 0 or (gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker)):
            raise PalateError(
                f"--gpus-per-worker {gpus_per_worker:g} cannot be reserved",
                "Give a fraction up to 1, or a whole number.",
            )
        require_ray()
        self.address, self.count = address, workers
        self.gpus, self.cpus = gpus_per_worker, cpus_per_worker
        self._end: Callable[[], None] | None = None

    @contextmanager
    def workers(self, task: Task[Piece, Result]) -> Iterator[Workers[Piece, Result]]:
        """See :meth:`Engine.workers`."""
        with self._pools([task], self.connected()) as (pool,):
            yield pool

    @contextmanager
    def divided(self, tasks: Sequence[Task[Piece, Result]]) -> Iterator[list[Workers[Piece, Result]]]:
        """See :meth:`Engine.divided`: each task gets an equal part of the workers."""
        count = self.connected()
        if count < len(tasks):
            raise PalateError(
                f"{len(tasks)} shards need as many workers, and there are {count}",
                f"Give --workers {len(tasks)} or more, or fewer shards.",
            )
        with self._pools(tasks, count // len(tasks)) as pools:
            yield [*pools]

    @contextmanager
    def _pools(self, tasks: Sequence[Task[Piece, Result]], count: int) -> Iterator[list[RayPool[Piece, Result]]]:
        """A pool of ``count`` workers for each task; all of them start at the same time."""
        ray = require_ray()
        kind: Any = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0, max_task_retries=0)(RayWorker)
        home, expected = Path.cwd(), versions()

        def start(task: Any, folders: list[str]) -> tuple[Any, Any]:
            actor = kind.remote()
            return actor, actor.start.remote(task, expected, str(home), folders)

        pools: list[RayPool[Piece, Result]] = []
        try:
            starts = (partial(start, ray.put(task), whole_paths(task.folders)) for task in tasks)
            pools.extend(RayPool(one, count) for one in starts)
            for pool in pools:
                pool.wait_for_first()
            yield pools
        finally:
            for pool in pools:
                pool.close()

    def together(self, function: Callable[[], None], scratch: Path, folders: Sequence[Path] = ()) -> None:
        """See :meth:`Engine.together`: by Ray Train."""
        count = self.connected()
        room = self._room(require_ray().cluster_resources())
        if count > room:
            message = f"The cluster has room for {room} workers: training begins when there is room for {count}."
            print_note(message)
        scratch.parent.mkdir(parents=True, exist_ok=True)  # what is written is there, and workers must see it
        there = whole_paths([*folders, scratch.parent])
        train_together(function, Path.cwd() / scratch, there, workers=count, cpus=self.cpus, gpus=self.gpus)

    def connected(self) -> int:
        """Connect, unless that is done; how many workers there will be."""
        if self._end is None:
            self._end = connect(self.address, max(os.cpu_count() or 1, (self.count or 1) * self.cpus))
        return self._fitting(require_ray().cluster_resources())

    def _fitting(self, there: dict[str, float]) -> int:
        """How many workers, of what the cluster has."""
        room = self._room(there)
        if room < 1:
            raise PalateError(
                f"a worker needs {self.cpus} CPUs and {self.gpus:g} GPUs, and the cluster has {there.get('CPU', 0):g} "
                f"and {there.get('GPU', 0):g}",
                "Correct --cpus-per-worker or --gpus-per-worker, or add machines.",
            )
        return self.count or room

    def _room(self, there: dict[str, float]) -> int:
        """How many workers fit into what the cluster has."""
        return int(min(there.get("CPU", 0) / self.cpus, there.get("GPU", 0) / self.gpus if self.gpus else math.inf))

    def own_device(self, name: str) -> str:
        """The CPU: this process may be on a machine without a GPU."""
        if name != "auto" and not re.fullmatch(r"mps|cuda(:[0-9]{1,3})?", name):
            parse_device(name)
        return "cpu"

    def close(self) -> None:
        """Disconnect; a Ray that was started here ends."""
        if self._end is not None:
            self._end()
            self._end = None
