"""HTML: the page, and the parts that it is made of. All text is escaped here, but for arguments named `html`."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Section(NamedTuple):
    """A section of a page: its title, and its content as HTML."""

    title: str
    html: str


def page(title: str, lead: str, sections: Sequence[Section], given: Sequence[str]) -> str:
    """A whole page with a table of contents. It fetches nothing, runs nothing, and needs no other file.

    `given` are the names of the arguments from which it was made.
    """
    ids = [re.sub(r"\W+", "-", section.title.lower()) for section in sections]
    links = [f'<li><a href="#{id}">{escape(section.title)}</a>' for id, section in zip(ids, sections, strict=True)]
    bodies = [
        f'<section id="{id}">\n<h2>{escape(section.title)}</h2>\n{section.html}\n</section>'
        for id, section in zip(ids, sections, strict=True)
    ]
    parts = {"style": _STYLE, "given": " ".join(given), "links": "\n".join(links), "body": "\n\n".join(bodies)}
    return _PAGE.format(title=escape(title), lead=escape(lead), **parts)


def paragraph(text: str) -> str:
    return f"<p>{_prose(text)}</p>"


def subheading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def missing(text: str) -> str:
    """A note that something is not in the report, and why."""
    return f'<p class="missing"><strong>Not in this report.</strong> {_prose(text)}</p>'


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """A few key figures: names and values."""
    parts = [f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values]
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. The first cell of a row is its heading. Cells that look like numbers are aligned to the right."""
    rows = [list(row) for row in rows]
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]

    def cell(tag: str, text: str, i: int) -> str:
        kind = ' class="number"' if numeric[i] and rows else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", text, i) for i, text in enumerate(columns))
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(cell("td", text, i) for i, text in enumerate(rest, 1))
        for first, *rest in rows
    ]
    body = "".join(f"{line}</tr>\n" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def figure(html: str, label: str, caption: str = "") -> str:
    """A figure with its description for those who cannot see it, and a caption."""
    told = f"<figcaption>{_prose(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="wide" role="img" aria-label="{escape(label)}">{html}</div>{told}</figure>'


def grid(parts: Iterable[str]) -> str:
    """Parts, as HTML, side by side where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def details(summary: str, text: str) -> str:
    """A long text that is hidden at first."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def matrix(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[str, str, float, str]]]) -> str:
    """A matrix: of each cell a number, its share as text and as a number from 0 to 1, and its kind."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)

    def cell(number: str, told: str, share: float, kind: str) -> str:
        deep = " deep" if share > 0.5 else ""
        return (
            f'<td class="{kind}{deep}" style="--share:{share:.3f}">{escape(number)}<small>{escape(told)}</small></td>'
        )

    lines = [
        f'<tr><th scope="row">{escape(name)}</th>{"".join(cell(*each) for each in line)}</tr>'
        for name, line in zip(rows, cells, strict=True)
    ]
    corner = f'<tr><td></td><th scope="colgroup" colspan="{len(columns)}" class="axis">answer</th></tr>'
    head = f'<tr><th scope="col" class="axis">class</th>{head}</tr>'
    body = f"<thead>{corner}{head}</thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide"><table class="matrix">{body}</table></div>'


def _prose(text: str) -> str:
    """Text with code between backticks."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-−–]?|[-−]?[\d,.]+(e[-+]?\d+)?( ?%| s| ms)?|nan|inf", text) is not None


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="given" content="{given}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{lead}</p>
</header>
<nav aria-label="Contents"><ul>
{links}
</ul></nav>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ground: #f5f6f8; --ink: #26303b; --soft: #5c6773; --pale: #9aa5b1; --line: #e1e5ea;
  --blue: #3b6fb6; --orange: #e07b39; --green: #4f9d69; --note: #fdf4e7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #1b2027; --ground: #12161b; --ink: #e3e8ee; --soft: #a3aebb; --pale: #6d7986; --line: #303843;
    --blue: #6fa3e8; --orange: #f0985c; --green: #72c08d; --note: #2e2720;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 3.2rem; }
body {
  margin: 0 auto; padding: 0 clamp(0.8rem, 3vw, 2rem) 4rem; max-width: 68rem;
  background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
  font-variant-numeric: tabular-nums;
}
header { padding: 2.2rem 0 0.6rem; }
h1 { margin: 0; font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 0 0 0.8rem; font-size: 1.25rem; }
h3 { margin: 1.6rem 0 0.4rem; font-size: 1rem; }
p { margin: 0 0 0.8rem; max-width: 44rem; overflow-wrap: anywhere; }
header p, figcaption { color: var(--soft); }
nav { position: sticky; top: 0; z-index: 1; background: var(--ground); border-bottom: 1px solid var(--line); }
nav ul { display: flex; gap: 0 1.2rem; margin: 0; padding: 0; overflow-x: auto; list-style: none; }
nav a { display: block; padding: 0.6rem 0; color: var(--soft); white-space: nowrap; text-decoration: none; }
nav a:hover, nav a:focus-visible { color: var(--blue); }
section {
  margin-top: 1.2rem; padding: clamp(0.9rem, 2.5vw, 1.6rem);
  background: var(--paper); border: 1px solid var(--line); border-radius: 0.6rem;
}
section > :last-child { margin-bottom: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1rem; margin: 0; }
.tiles dt { color: var(--soft); font-size: 0.85rem; }
.tiles dd { margin: 0; font-size: 1.5rem; line-height: 1.3; }
.missing {
  padding: 0.7rem 0.9rem; border-left: 3px solid var(--orange); border-radius: 0.2rem; background: var(--note);
}
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0 0 0.8rem; }
th, td { padding: 0.35rem 1.2rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left; }
th, td { vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 4rem; }
thead th { color: var(--soft); font-size: 0.85rem; font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
.number { text-align: right; }
.matrix { border-collapse: separate; border-spacing: 2px; }
.matrix th { padding: 0.2rem 0.6rem; border: 0; text-align: center; color: var(--ink); }
.matrix tbody th { text-align: right; }
.matrix .axis { color: var(--soft); font-weight: 400; }
.matrix td { min-width: 3.6rem; padding: 0.35rem 0.4rem; border: 0; text-align: center; line-height: 1.2; }
.matrix thead td { padding: 0; min-width: 0; }
.matrix small { display: block; opacity: 0.8; font-size: 0.75rem; }
.matrix tbody td {
  background: color-mix(in srgb, var(--hue) calc(100% * (0.06 + 0.8 * var(--share))), var(--paper)); --hue: var(--pale);
}
.matrix .right { --hue: var(--blue); }
.matrix .wrong { --hue: var(--orange); }
.matrix .nothing { background: var(--ground); }
.matrix .deep { color: var(--paper); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1.2rem; }
figure { margin: 0 0 1rem; }
figure svg, figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; fill: var(--ink); }
figure svg text { font-family: inherit !important; }
.grid figure { margin: 0; }
.grid h3 { margin: 0 0 0.2rem; }
.grid svg { margin: 0; width: 100%; }
.white { background: #ffffff; border-radius: 0.4rem; }
figcaption { margin-top: 0.3rem; font-size: 0.9rem; max-width: 44rem; }
details { margin-top: 0.6rem; }
summary { cursor: pointer; color: var(--soft); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { font-size: 0.9em; }
pre { overflow-x: auto; padding: 0.8rem; background: var(--ground); border-radius: 0.4rem; font-size: 0.8rem; }
@media (max-width: 40rem) { .sample svg, .sample img { max-width: none; width: 40rem; } }
@media print { nav { display: none; } section { break-inside: avoid; } body { max-width: none; } }
"""
