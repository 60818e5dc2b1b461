"""Figures inside an HTML page, in the colours of the page."""

import base64
import io
import re
from typing import Any

from ..plot._style import BLUE, GREEN, INK, ORANGE, PALE, tint


# Of a figure as SVG, in characters. A larger one becomes a PNG.
_LONGEST = 150_000

_FONT = {"font.size": 10.0, "axes.titlesize": 10.0}
_COLOURS = {f"{part}.color": INK for part in ("text", "xtick", "ytick")} | {"axes.labelcolor": INK}


def style(**others: Any) -> Any:
    """The context in which figures are drawn and saved: whatever style the user has chosen is not used."""
    try:
        from matplotlib import style
    except ImportError as error:
        raise ImportError("`sx.report` needs Matplotlib: `pip install 'spikax[plot]'`.") from error
    # Names, as of layers and measures, are no formulas. SVG holds text as text, in the font of the page.
    fixed = {"axes.edgecolor": PALE, "text.parse_math": False, "svg.fonttype": "none"}
    return style.context(["default", _FONT | _COLOURS | fixed | others])


def new(width: float, height: float) -> Any:
    """A figure without pyplot, which needs no display and does not stay open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def themed(figure: Any, key: str) -> str:
    """A figure of spikax as HTML, in the light or dark colours of the page. `key` differs between figures."""
    svg = _svg(figure, key)
    if len(svg) > _LONGEST:
        return _png(figure)
    shades = _shades()
    pattern = re.compile("|".join(shades))
    return re.sub('style="[^"]*"', lambda style: pattern.sub(lambda shade: shades[shade[0]], style[0]), svg)


def plain(figure: Any, key: str) -> str:
    """Any other figure as HTML, in its own colours on white."""
    svg = _svg(figure, key)
    return _png(figure) if len(svg) > _LONGEST else svg.replace("<svg ", '<svg class="white" ', 1)


def _shades() -> dict[str, str]:
    """The variable of the page for each colour of the plots."""
    from matplotlib.colors import to_hex

    known = {"#000000": "var(--ink)", "#ffffff": "var(--paper)", INK: "var(--ink)", PALE: "var(--pale)"}
    known |= {BLUE: "var(--blue)", ORANGE: "var(--orange)", GREEN: "var(--green)"}
    # The boxes of `plot.network`.
    boxes = ((INK, "ink", 0.1), (ORANGE, "orange", 0.22), (GREEN, "green", 0.22))
    return known | {
        to_hex(tint(colour, strength)): f"color-mix(in srgb, var(--{name}) {strength:.0%}, var(--paper))"
        for colour, name, strength in boxes
    }


def _svg(figure: Any, key: str) -> str:
    with style(**{"svg.hashsalt": key}):
        file = io.StringIO()
        figure.savefig(file, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    # Without the head of a file, and the names of groups, which would be those of other figures too.
    return re.sub('<g id="[^"]*">', "<g>", svg[svg.index("<svg") :]).strip()


def _png(figure: Any) -> str:
    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="white" alt="" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
