"""Small tables, as text for `print`, and as HTML for notebooks."""

import html
import textwrap
from collections.abc import Sequence
from itertools import zip_longest


Row = Sequence[str | Sequence[str]]
"""The cells of a row: texts, or entries that are listed."""

Section = tuple[str, Sequence[Row]]
"""A heading, empty for none, and rows."""

_WIDTH = 36  # of a cell with entries, in characters; longer ones are wrapped between entries


def as_text(title: str, columns: Sequence[str], sections: Sequence[Section]) -> str:
    """A title, and the rows of all sections in columns of their width."""
    cells = [[list(map(_wrapped, row)) for row in rows] for rows in ([columns], *(rows for _, rows in sections))]
    widths = [max(len(line) for rows in cells for row in rows for line in row[i]) for i in range(len(columns))]

    def lines(row: list[list[str]]) -> list[str]:
        each = zip_longest(*row, fillvalue="")
        return ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in each]

    head, *parts = ([line for row in rows for line in lines(row)] for rows in cells)
    headings = ([heading] if heading and part else [] for (heading, _), part in zip(sections, parts, strict=True))
    body = [line for heading, part in zip(headings, parts, strict=True) for line in (*heading, *part)]
    return "\n".join([title, *head, *body])


def as_html(title: str, columns: Sequence[str], sections: Sequence[Section]) -> str:
    """The same as an HTML table, with a rule between sections."""
    left = "style='text-align: left; vertical-align: top'"

    def line(row: Row, tag: str = "td") -> str:
        texts = (_unbroken(cell) if isinstance(cell, str) else _listed(cell) for cell in row)
        return "<tr>" + "".join(f"<{tag} {left}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    bodies = ["".join(map(line, rows)) for _, rows in sections]
    rules = ["", *(" style='border-top: 1px solid'" for _ in bodies[1:])]
    body = "".join(f"<tbody{rule}>{rows}</tbody>" for rule, rows in zip(rules, bodies, strict=True))
    return f"<div>{html.escape(title)}<table><thead>{line(columns, 'th')}</thead>{body}</table></div>"


def _wrapped(cell: str | Sequence[str]) -> list[str]:
    """The lines of a cell."""
    if isinstance(cell, str):
        return [cell]
    lines = textwrap.wrap(_listed(cell), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines] or [""]


def _listed(entries: Sequence[str]) -> str:
    """The entries as one text, which can be wrapped only between entries."""
    return ", ".join(map(_unbroken, entries))


def _unbroken(text: str) -> str:
    return text.replace(" ", "\xa0")
