"""Palate: recommenders that understand pictures and text and are aligned on preferences."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("palate")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
