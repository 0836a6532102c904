"""A page taken apart, to test that it stands alone and says what it should."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """``tags`` in their order, ``links`` of any kind, all ``text``, and the text of each table row in ``rows``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.rows: list[str] = []
        self.feed(text)

    @property
    def outside(self) -> list[str]:
        """The links that are not data in the page itself."""
        return [link for link in self.links if not link.startswith("data:image/jpeg;base64,")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows:
            self.rows[-1] += data.strip() + "|" if data.strip() else ""
