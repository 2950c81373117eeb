"""A page of a report as a reader gets it: its elements, its text, the rows of its tables."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """Checks that elements close in order; gathers what stands in them."""

    VOID = ("meta", "br", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, *first: str) -> list[str]:
        """The row that begins with these cells, white space made plain."""
        plain = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        (found,) = [row for row in plain if tuple(row[: len(first)]) == first]
        return found
