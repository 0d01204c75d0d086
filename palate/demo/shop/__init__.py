"""The embedded demo set: a made-up shop whose pictures are drawn here and whose users' taste is known."""

from palate.demo.shop.build import build_demo
from palate.demo.shop.truth import Truth, load_truth

__all__ = ["Truth", "build_demo", "load_truth"]
