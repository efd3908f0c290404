"""Plots as SVG, written by hand: bars and lines need no library. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.figures import figure

WIDTH = 720
_LEFT, _RIGHT, _BAR, _GAP = 300, 90, 22, 10
_OURS, _OTHERS, _INK, _FAINT = "#2563eb", "#94a3b8", "#1f2937", "#e5e7eb"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ours is coloured."""

    label: str
    value: float
    ours: bool = False


def bars(title: str, entries: Sequence[Bar]) -> str:
    """Bars that lie, the longest as wide as there is room."""
    height = 50 + len(entries) * (_BAR + _GAP)
    longest = max(entry.value for entry in entries)
    parts = [_text(16, 26, title, weight="bold", size=15)]
    for number, entry in enumerate(entries):
        top = 44 + number * (_BAR + _GAP)
        width = max(1.0, entry.value / longest * (WIDTH - _LEFT - _RIGHT))
        colour = _OURS if entry.ours else _OTHERS
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{colour}"/>')
        parts.append(_text(_LEFT - 10, top + 16, entry.label, anchor="end"))
        parts.append(_text(_LEFT + width + 8, top + 16, figure(entry.value)))
    return _svg(height, title, parts)


def lines(title: str, ticks: Sequence[int], series: Mapping[str, Sequence[float]], *, ours: str, below: str) -> str:
    """A line for each series over the same ticks, from nought upwards; every point shows its figure."""
    top, bottom, left, right = 60, 270, 60, WIDTH - 190
    highest = max(max(values) for values in series.values())
    across = [left + number * (right - left) / max(1, len(ticks) - 1) for number in range(len(ticks))]
    parts = [_text(16, 26, title, weight="bold", size=15)]
    parts.append(f'<line x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{_FAINT}" stroke-width="2"/>')
    for x, tick in zip(across, ticks, strict=True):
        parts.append(_text(x, bottom + 22, str(tick), anchor="middle"))
    parts.append(_text((left + right) / 2, bottom + 44, below, anchor="middle"))
    for name, values in series.items():
        colour = _OURS if name == ours else _OTHERS
        down = [bottom - value / highest * (bottom - top) for value in values]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="3"/>')
        for x, y, value in zip(across, down, values, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            parts.append(_text(x, y - 10, figure(value), anchor="middle"))
        parts.append(_text(right + 16, down[-1] + 5, name))
    return _svg(bottom + 60, title, parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="{_INK}">{escape(text)}</text>'
    )


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title, quote=True)}" font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
