"""All models of a service at one moment. A reload makes another; requests keep the one that they began with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.bundle.load import Bundle
from palate.bundle.manifest import NAME, read_manifest
from palate.cascade.cascade import Cascade, check_catalogues
from palate.errors import PalateError, suggest
from palate.rankers.registry import RANKERS
from palate.recommender import Recommender
from palate.serve.config import ServeConfig
from palate.serve.served import Served
from palate.serve.telemetry import Telemetry
from palate.storage.remote import newest


@dataclass(frozen=True)
class BundleSpec:
    """A bundle to serve.

    Attributes:
        retriever: name of the model that proposes items to this one; needed by language models.
        depth: how many it proposes.
        blend: weight of this model against the retriever's, or None: this model alone decides.
    """

    name: str
    folder: Path
    retriever: str | None = None
    depth: int = 20
    blend: float | None = None


class LoadedModels:
    """Models by name, in the order of the command line; the first is the default."""

    def __init__(self, models: Sequence[Served]) -> None:
        self.models = {one.name: one for one in models}

    @property
    def default(self) -> Served:
        return next(iter(self.models.values()))

    def find(self, name: str | None) -> Served:
        """A model by its name; None: the default.

        Raises:
            KeyError: there is none of that name.
        """
        return self.default if name is None else self.models[name]


def parse_bundle_specs(
    values: Sequence[str], retriever: str | None, depth: int, blend: float | None
) -> list[BundleSpec]:
    """Bundles as the command line names them: ``DIR`` or ``NAME=DIR``.

    Args:
        retriever: a name among them, or another bundle, which is then served as well; used by language models alone.

    Raises:
        PalateError: a name twice, no bundle, or a language model without a retriever.
    """
    named = [_named(one) for one in values]
    if retriever is not None and retriever not in dict(named):
        name, folder = _named(retriever)
        same = next((known for known, path in named if path.resolve() == folder.resolve()), None)
        if same is None:
            named.append((name, folder))
        retriever = same or name
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise PalateError(f"two models are called '{name}'", "Give them names: NAME=DIR.")
    specs = []
    for name, folder in named:
        kind = RANKERS[read_manifest(folder)["model"]]
        if kind.whole_catalogue:
            specs.append(BundleSpec(name, folder))
        elif retriever is None or retriever == name:
            raise PalateError(
                f"'{name}' cannot afford the whole catalogue",
                "Give --retriever BUNDLE: a fast one, made from the same data, that proposes what this one re-ranks.",
            )
        else:
            specs.append(BundleSpec(name, folder, retriever, depth, blend))
    if retriever is not None and all(one.retriever is None for one in specs):
        raise PalateError(
            "--retriever has nothing to propose to: every model here ranks the whole catalogue", "Leave it out."
        )
    return specs


def _named(value: str) -> tuple[str, Path]:
    name, equals, folder = value.partition("=")
    if equals and not Path(value).exists():
        if not name or not folder:
            raise PalateError(f"'{value}' names no bundle", "Write NAME=DIR, or DIR alone.")
        return name, Path(folder)
    return Path(value).absolute().name, Path(value)  # of a link its own name, which a deployment keeps


def version_of(folder: Path) -> str:
    """Changes when anything in the bundle does: its manifest holds a hash of every file."""
    try:
        return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()[:12]
    except OSError:
        read_manifest(folder)  # raises with the reason
        raise


def load_models(
    specs: Sequence[BundleSpec],
    config: ServeConfig,
    telemetry: Telemetry,
    device: str = "cpu",
    before: LoadedModels | None = None,
) -> LoadedModels:
    """Verify and load all bundles, and ask each a question, so that the first request does not pay for the start.

    Args:
        before: what is served now; models that have not changed are taken over.

    Raises:
        PalateError: a bundle that is not whole, or two that number their items differently in a cascade.
    """
    loaded: dict[str, Served] = {}
    for one in sorted(specs, key=lambda one: one.retriever is not None):  # what proposes comes first
        folder = newest(one.folder)  # a link may be turned elsewhere while this one is read, and afterwards
        version = full = version_of(folder)
        if one.retriever is not None:
            if one.retriever not in loaded:
                raise PalateError(f"there is no fast model '{one.retriever}'", suggest(one.retriever, loaded))
            full = f"{version}+{loaded[one.retriever].version}"
        old = before.models.get(one.name) if before is not None else None
        # The same bundle in another place is loaded again: its pictures are read from that place.
        if old is not None and old.version == full and old.bundle.folder == folder:
            loaded[one.name] = old
            continue
        loaded[one.name] = _load(one, folder, full, config, telemetry, device, loaded)
        if version_of(folder) != version:
            raise PalateError(f"{folder} changed while it was being loaded", "Put new bundles in place whole.")
    return LoadedModels([loaded[one.name] for one in specs])


def _load(
    one: BundleSpec,
    folder: Path,
    version: str,
    config: ServeConfig,
    telemetry: Telemetry,
    device: str,
    loaded: dict[str, Served],
) -> Served:
    bundle = Bundle.load(folder, device)
    model: Recommender | None = None
    if one.retriever is not None:
        fast = loaded[one.retriever]
        check_catalogues(bundle.as_run(), fast.bundle.as_run())
        model = Cascade(fast.model, bundle.recommender, depth=one.depth)
        if one.blend is not None:
            model = model.variant("blend", one.blend)
        model.allow_generation()
    served = Served(one.name, version, bundle, config, telemetry, model, one.retriever)
    served.warm_up()
    return served
