"""Figures as inline SVG that follows the colours of the page, light or dark."""

from __future__ import annotations

import html
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from molifold.plots import style

#: Colours of ``plots.style`` that are variables of the page.
VARIABLES = {
    style.INK: "ink", style.MUTED: "muted", style.LINE: "line", style.FILL: "fill", style.REFERENCE: "reference",
    style.RAW: "raw", style.REWEIGHTED: "reweighted", style.GOOD: "good", style.BAD: "bad",
}  # fmt: skip


def inline(figure: Figure, *, key: str, title: str) -> str:
    """The figure as an ``<svg>`` element without identifiers, namespaces or metadata that could clash or reach out.

    Args:
        figure: to draw.
        key: letters that no other figure of the page has; prefixes its identifiers.
        title: what a screen reader says.

    >>> text = inline(Figure(figsize=(2, 1)), key="a", title="<b>")
    >>> text.startswith('<svg role="img" aria-label="&lt;b&gt;"'), "http" in text
    (True, False)
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": key, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    width, height = size.groups() if size else ("600", "300")
    opening = f'<svg role="img" aria-label="{html.escape(title)}" viewBox="0 0 {width} {height}">'
    text = re.sub(r"^<svg[^>]*>", lambda _: opening, text)
    used = set(re.findall(r"#([\w.-]+)\)", text)) | set(re.findall(r'href="#([\w.-]+)"', text))
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"url\(#", f"url(#{key}-", text)
    text = re.sub(r'href="#', f'href="#{key}-', text)
    for colour, name in VARIABLES.items():
        text = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var(--{name})", text)
    return text.strip()
