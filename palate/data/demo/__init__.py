"""The embedded demo set: a made-up shop whose pictures are drawn here and whose users' taste is known."""

from palate.data.demo.build import build_demo
from palate.data.demo.truth import Truth, load_truth

__all__ = ["Truth", "build_demo", "load_truth"]
