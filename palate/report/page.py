"""The page around the sections: style and script inside it, and a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from palate.report.markup import Html, join, outside, tag

HERE = Path(__file__).parent


def style() -> str:
    return (HERE / "page.css").read_text(encoding="utf-8")


def script() -> str:
    return (HERE / "page.js").read_text(encoding="utf-8")


def policy() -> str:
    """Nothing comes from anywhere: pictures are in the page, and of scripts only this very one runs."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def page(title: str, hero: Html, sections: Sequence[tuple[str, str, Html]], foot: Html, ratio: float) -> str:
    """The whole file.

    Args:
        sections: ``(id, name in the navigation, content)``.
        ratio: width by height of the tiles of pictures.
    """
    links = [tag("li", tag("a", name, href=f"#{id_}")) for id_, name, _ in sections]
    parts = [tag("section", content, id=id_) for id_, _, content in sections]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        # Written as they are: both are the package's own files.
        Html(f"<style>\n{style()}:root{{--ratio:{ratio:.3f}}}\n</style>"),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#main", class_="skip"),
        tag("header", tag("div", hero, class_="wrap")),
        tag("nav", tag("ul", links, class_="wrap"), aria_label="Sections"),
        tag("main", parts, id="main", class_="wrap"),
        tag("footer", foot, class_="wrap"),
        Html(f"<script>{script()}</script>"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def stat(value: str, name: str) -> Html:
    """A number of the hero."""
    return tag("div", tag("dt", name), tag("dd", value))


def title_of(name: str) -> Html:
    return join(outside(name), tag("span", " report", class_="soft"))
