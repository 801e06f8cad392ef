"""Pictures for those who share a page: its title and promise beside the two spirals, 1200 × 630."""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path

PAPER, INK, MUTED = "#14181e", "#f2f4f7", "#a9b4c0"
COLORS = ("#56b4e9", "#f2994a")
VERSION = b"1"


def draw_card(folder: Path, title: str, text: str) -> Path:
    """Draw the card, or find it drawn: its name comes from its words.

    Parameters
    ----------
    folder : Path
        Where cards are kept.
    title, text : str
        What stands on it; without ``text`` all pages share one card.
    """
    if not text:
        title, text = "Deep Notes", "The foundations of deep learning: read them, run them, import them"
    path = folder / f"{hashlib.sha256(VERSION + title.encode() + b'|' + text.encode()).hexdigest()[:16]}.png"
    if path.exists():
        return path
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(12, 6.3), dpi=100, facecolor=PAPER, layout="none")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.66, 0.12, 0.32, 0.76))
    axes.set_axis_off()
    axes.set_aspect("equal")
    turn = np.linspace(0.35, 3.4 * np.pi, 90)
    for sign, color in zip((1, -1), COLORS, strict=True):
        axes.plot(sign * turn * np.cos(turn), sign * turn * np.sin(turn), "o", color=color, markersize=7)
    figure.text(0.06, 0.83, "Deep Notes", color=MUTED, fontsize=22, parse_math=False)
    name = textwrap.fill(title, 24, max_lines=3, placeholder=" …")
    figure.text(
        0.06, 0.74, name, color=INK, fontsize=44, fontweight="bold", va="top", linespacing=1.1, parse_math=False
    )
    said = textwrap.fill(text, 46, max_lines=3, placeholder=" …")
    figure.text(0.06, 0.30, said, color=MUTED, fontsize=21, va="top", linespacing=1.35, parse_math=False)
    figure.savefig(path, facecolor=PAPER, pil_kwargs={"optimize": True})
    return path
