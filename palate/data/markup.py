"""Text out of HTML: tags go, and entities become the characters that they stand for."""

from __future__ import annotations

from html.parser import HTMLParser

_HIDDEN = ("script", "style")
# Shops escape text twice at times: "&amp;quot;".
_ROUNDS = 2


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in _HIDDEN
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden = max(0, self.hidden - (tag in _HIDDEN))
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)


def plain_text(text: str) -> str:
    """Text without tags, scripts and entities, blanks in a row as one.

    >>> plain_text("<b>Tom &amp;amp; Jerry</b><br/>3 < 4 &lt;i&gt;new&lt;/i&gt;<script>x()</script>")
    'Tom & Jerry 3 < 4 new'
    """
    for _ in range(_ROUNDS):
        if "<" not in text and "&" not in text:
            break
        parser = _Text()
        parser.feed(text)
        parser.close()
        text = "".join(parser.parts)
    return " ".join(text.split())
