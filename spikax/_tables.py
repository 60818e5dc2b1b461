"""Small tables, as text for `print`, and as HTML for notebooks."""

import html
from collections.abc import Sequence


Row = Sequence[str]


def as_text(headline: str, columns: Row, rows: Sequence[Row]) -> str:
    """A headline, and rows in columns of their width."""
    lines = [columns, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return "\n".join([headline, *("  " + _padded(line, widths) for line in lines)])


def _padded(line: Row, widths: Sequence[int]) -> str:
    return "  ".join(entry.ljust(width) for entry, width in zip(line, widths, strict=True)).rstrip()


def as_html(headline: str, columns: Row, rows: Sequence[Row]) -> str:
    """The same as an HTML table."""
    head = "".join(f"<th style='text-align:left'>{html.escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(entry)}</td>" for entry in row) + "</tr>"
        for row in rows
    )
    return (
        f"<div><b>{html.escape(headline)}</b><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
