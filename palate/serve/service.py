"""The state of a running service: which models answer now, and how others take their place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from palate.errors import PalateError
from palate.serve.batching import Overloaded
from palate.serve.business.business_rules import BusinessRules
from palate.serve.config import ServeConfig
from palate.serve.feedback.feedback import Feedback
from palate.serve.feedback.recorder import Recorder
from palate.serve.loaded_models import BundleSpec, LoadedModels, load_models, version_of
from palate.serve.people import DemoUser
from palate.serve.telemetry import Telemetry
from palate.serve.thumbnails import Thumbnails
from palate.serve.traffic import Traffic
from palate.storage.remote import newest

T = TypeVar("T")
PoolName = Literal["lookups", "pictures"]
# How soon the watch tries a bundle again that could not be loaded; it doubles each time, up to the second.
_PAUSE_SECONDS, _LONGEST_PAUSE = 1.0, 60.0
# Looks in a row that do not find the bundles before the log says so: one may fall into the moment of a replacement.
_LOOKS_IN_VAIN = 3


class NotReady(Exception):
    """The models are still being loaded."""


class Service:
    """What the routes ask.

    Args:
        specs: the bundles to serve.
        people: users to try the service with.
        rules: file of business rules, which is read again when it changes.
        traffic: which model answers which user, where a request names no model.
        feedback: folder in which what was shown and taken is kept.
    """

    def __init__(
        self,
        specs: Sequence[BundleSpec],
        config: ServeConfig,
        *,
        people: Sequence[DemoUser] = (),
        device: str = "cpu",
        telemetry: Telemetry | None = None,
        rules: Path | None = None,
        traffic: Traffic | None = None,
        feedback: Path | None = None,
    ) -> None:
        self.specs, self.config, self.people, self.device = list(specs), config, list(people), device
        self.telemetry = telemetry or Telemetry()
        self.traffic = traffic
        self.recorder = None if feedback is None else Recorder(feedback, self.telemetry, seconds=config.feedback_every)
        self.feedback = Feedback(self.telemetry, self.recorder)
        self.business = None if rules is None else BusinessRules(rules, self.telemetry)
        self.thumbnails = Thumbnails(config.image_side, config.image_cache)
        self.state: Literal["ok", "loading", "stopping"] = "loading"
        # Titles are searched and pictures decoded on other threads, neither in a model's queue nor in the other's.
        self._pools = {kind: ThreadPoolExecutor(2, thread_name_prefix=kind) for kind in ("lookups", "pictures")}
        self._waiting = dict.fromkeys(self._pools, 0)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loaded: LoadedModels | None = None
        self._reloading = asyncio.Lock()

    @property
    def loaded(self) -> LoadedModels:
        """The models that answer now; a request takes it once and keeps it.

        Raises:
            NotReady: they are still being loaded.
        """
        if self._loaded is None:
            raise NotReady
        return self._loaded

    def start(self) -> None:
        """Load everything for the first time.

        Raises:
            PalateError: a bundle that cannot be served, rules that are broken, or a folder that cannot be written to.
        """
        loaded = load_models(self.specs, self.config, self.telemetry, self.device)
        if self.business is not None:
            self.business.start(loaded.models)
        if self.recorder is not None:
            self.recorder.start()
        self._loaded = loaded
        self.telemetry.models.set(len(self._loaded.models))
        self.state = "ok"

    def close(self) -> None:
        """Put what is still to be kept on the disk."""
        if self.recorder is not None:
            self.recorder.close()

    async def reload(self) -> list[str]:
        """Load the bundles that have changed and let them answer from now on; returns their names.

        Requests that are under way finish with the models they began with. If a new bundle cannot be loaded, the old
        ones go on answering.

        Raises:
            PalateError: why not.
        """
        async with self._reloading:
            before = self.loaded
            try:
                after = await asyncio.get_running_loop().run_in_executor(self._loader, self._load_again, before)
            except Exception as error:
                self.telemetry.reloads.labels("failed").inc()
                self.telemetry.log.error("reload failed", error=str(error))
                if isinstance(error, PalateError | OSError):
                    raise PalateError(f"the new bundle is not served: {error}", "The old one goes on.") from None
                raise
            changed = [name for name, one in after.models.items() if before.models.get(name) is not one]
            self._loaded = after
            self.telemetry.reloads.labels("changed" if changed else "same").inc()
            if changed and self.business is not None:
                self.business.try_again()
            for name in changed:
                self.telemetry.log.info("reloaded", model=name, version=after.models[name].version)
            return changed

    def _load_again(self, before: LoadedModels) -> LoadedModels:
        after = load_models(self.specs, self.config, self.telemetry, self.device, before)
        if self.business is not None:
            self.business.apply({name: one for name, one in after.models.items() if one is not before.models.get(name)})
        return after

    async def watch_rules(self) -> None:
        """Look for changed rules every so often, for ever."""
        loop = asyncio.get_running_loop()
        while self.business is not None:
            await asyncio.sleep(self.config.rules_every)
            async with self._reloading:
                try:
                    await loop.run_in_executor(self._loader, self.business.refresh, self.loaded.models)
                except Exception as error:  # whatever it is, the watch goes on
                    self.telemetry.log.error("rules not read", exc_info=error)

    async def watch(self, seconds: float) -> None:
        """Look for changed bundles every so often, for ever. One that cannot be loaded is tried again after a pause
        that doubles each time, up to a minute, or when it changes once more. Bundles that are gone, or in a store that
        does not answer, are logged once, and once when they are back."""
        loop = asyncio.get_running_loop()
        refused, pause, again = "", 0.0, 0.0
        in_vain = 0
        while True:
            await asyncio.sleep(seconds)
            try:
                now = await loop.run_in_executor(self._loader, self._versions)  # it may have to ask a store
            except (PalateError, OSError) as error:
                in_vain += 1
                if in_vain == _LOOKS_IN_VAIN:
                    self.telemetry.log.warning("bundles not found, the old ones go on", error=str(error))
                continue
            if in_vain >= _LOOKS_IN_VAIN:
                self.telemetry.log.info("bundles found again")
            in_vain = 0
            served = "".join(one.version.partition("+")[0] for one in self.loaded.models.values())
            if now == served or (now == refused and loop.time() < again):
                continue
            try:
                await self.reload()
            except Exception:  # it is in the log; the watch goes on
                pause = min(_LONGEST_PAUSE, 2 * pause) if now == refused else max(_PAUSE_SECONDS, seconds)
                refused, again = now, loop.time() + pause

    def _versions(self) -> str:
        """Versions on the disk or in a store."""
        return "".join(version_of(newest(one.folder)) for one in self.specs)

    async def in_thread(self, work: Callable[..., T], *args: object, pool: PoolName = "lookups") -> T:
        """Run something that takes a while on a thread.

        Raises:
            Overloaded: too many wait for that already.
        """
        if self._waiting[pool] >= self.config.max_waiting:
            raise Overloaded
        self._waiting[pool] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pools[pool], work, *args)
        finally:
            self._waiting[pool] -= 1
