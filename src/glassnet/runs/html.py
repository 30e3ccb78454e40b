"""Pieces of one HTML page that needs nothing but itself: no script, no network, pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from glassnet.runs.plots import save

Array = np.ndarray

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: .6rem 0 }
td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
td:first-child, th:first-child { text-align: left } th { font-weight: 600 }
.lead { font-size: 1.15rem } .note { color: #666 } .warning { background: #fff3d6; padding: .4rem .8rem }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto } img { max-width: 100% }
.shots { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 9.5rem }
figcaption { font-size: .8rem; overflow-wrap: anywhere }
.shots img { width: 9.5rem; image-rendering: auto } .shots img.small { image-rendering: pixelated }
"""

# The browser is told as well: nothing is loaded from elsewhere, and nothing runs.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SIDE = 160


def page(title: str, *parts: str) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A heading and what is below it; nothing where there is nothing below."""
    return "\n".join((f"<h2>{escape(title)}</h2>", *filter(None, parts))) if any(parts) else ""


def paragraph(text: str, kind: str = "") -> str:
    """Text in a paragraph of that class of the style sheet."""
    return f"<p class='{kind}'>{escape(text)}</p>" if kind else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], shades: Array | None = None) -> str:
    """A table of texts. shades: (rows, columns - 1) in 0..1, how dark each cell after the first is."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for i, row in enumerate(rows):
        cells = []
        for j, cell in enumerate(row):
            style = "" if shades is None or j == 0 or not shades[i, j - 1] else shade(shades[i, j - 1])
            cells.append(f"<td{style}>{escape(str(cell))}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "<div class='wide'><table>\n" + "\n".join(lines) + "\n</table></div>"


def shade(share: float) -> str:
    """A blue background, and white letters where it is dark."""
    letters = "; color: #fff" if share > 0.5 else ""
    return f" style='background: rgba(8, 81, 156, {0.08 + 0.82 * share:.2f}){letters}'"


def listing(lines: Iterable[str]) -> str:
    """A list of texts, empty where there are none."""
    items = "\n".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>\n{items}\n</ul>" if items else ""


def plain(text: str) -> str:
    """Text as it is, line by line."""
    return f"<pre>{escape(text)}</pre>"


def drawing(figure: Figure, what: str) -> str:
    """A figure as a picture inside the page."""
    buffer = io.BytesIO()
    save(figure, buffer)
    return f"<img alt='{escape(what)}' src='{data_uri(buffer.getvalue())}'>"


def shot(image: Array, caption: Sequence[str], what: str) -> str:
    """A raw image (H, W, C), uint8 or float 0..1, no larger than SIDE, over lines of text."""
    pixels = image if image.dtype == np.uint8 else np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    small = max(picture.size) < SIDE / 2
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    lines = "<br>".join(map(escape, caption))
    kind = " class='small'" if small else ""
    return (
        f"<figure><img{kind} alt='{escape(what)}' src='{data_uri(buffer.getvalue())}'>"
        f"<figcaption>{lines}</figcaption></figure>"
    )


def data_uri(png: bytes) -> str:
    """A PNG as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
