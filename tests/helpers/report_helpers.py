"""A small shop whose catalogue means harm, with two runs."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

HOSTILE = {
    3: "<script>alert('x')</script>",
    4: "\"><img src=x onerror=alert(1)> & 'quotes'",
    5: "abc\u202egnp.exe\u2066",
    6: "</style></title><h1>big</h1>",
    7: "javascript:alert(1)\x00\x1b[31m\nnew line",
}
VOID = {"img", "meta", "br", "hr", "col"}


class Page(HTMLParser):
    """The page as a browser would take it apart: elements with their attributes, and balanced ends."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> ends nothing"
        assert self.open[-1] == tag, f"</{tag}> ends <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str, class_: str | None = None) -> list[dict[str, str]]:
        found = [attributes for name, attributes in self.elements if name == tag]
        return [one for one in found if class_ is None or class_ in one.get("class", "").split()]

    @property
    def text(self) -> str:
        return "".join(self.words)


def read_page(folder: Path) -> Page:
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    return page
