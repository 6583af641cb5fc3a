"""Recall as plots, in SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.recalls import ARROWS, Beside, MeasuredRecall, published_label

if TYPE_CHECKING:
    from rwkvsearch.retrieval.ranks import Direction

_NAMES = ("R@1", "R@5", "R@10")
_GREYS = ("0.35", "0.5", "0.62", "0.72", "0.8")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # texts that can be read and searched
    "svg.hashsalt": "rwkvsearch",  # the same figures make the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def check_matplotlib() -> None:
    """Raise `RwkvSearchError` where there is none."""
    if find_spec("matplotlib") is None:
        raise RwkvSearchError(
            "plots need matplotlib: pip install 'rwkvsearch[plots]', or leave out --html"
        )


def bars(measured: Sequence[MeasuredRecall], about: Beside) -> str:
    """R@1, 5 and 10 of every model with their intervals, the published rows in grey beside them."""

    def draw(axes: Any, direction: Direction) -> None:
        rows = len(measured) + len(about.published)
        width = 0.8 / rows
        for n, one in enumerate(measured):
            recall = one.result.figures["pessimistic"][direction].recall
            ends = [one.result.intervals[direction][name] for name in _NAMES]
            values = [recall[name] for name in _NAMES]
            error = [[v - e[0] for v, e in zip(values, ends, strict=True)]]
            error += [[e[1] - v for v, e in zip(values, ends, strict=True)]]
            at = _places(n, width)
            axes.bar(at, values, width, yerr=error, capsize=2, label=one.model_id)
            for x, value, end in zip(at, values, ends, strict=True):
                axes.annotate(f"{value:.1f}", (x, end[1]), ha="center", va="bottom")
        for n, row in enumerate(about.published):
            values = [getattr(row, direction)[name] for name in _NAMES]
            label = published_label(row, measured)
            at, colour = _places(n + len(measured), width), _GREYS[n % len(_GREYS)]
            axes.bar(at, values, width, color=colour, label=label)
        axes.set_xticks([n + 0.4 - width / 2 for n in range(len(_NAMES))], _NAMES)
        axes.margins(y=0.12)
        axes.set(ylabel="percent", ylim=(0, None))

    return _svg(draw)


def curves(measured: Sequence[MeasuredRecall]) -> str:
    """The share of queries that are answered among the first k, over k."""

    def draw(axes: Any, direction: Direction) -> None:
        for one in measured:
            curve = one.result.curve[direction]
            axes.plot(*zip(*curve, strict=True), marker=".", label=one.model_id)
        chance = measured[0].result.chance[direction]
        axes.plot(*zip(*chance, strict=True), color="0.6", linestyle=":", label="by chance")
        axes.set(xscale="log", xlabel="k", ylabel="percent", ylim=(0, 102))
        axes.xaxis.set_major_formatter("{x:,.0f}")

    return _svg(draw)


def _places(row: int, width: float) -> list[float]:
    return [n + row * width for n in range(len(_NAMES))]


def _svg(draw: Any) -> str:
    """A drawing for each direction side by side, as an element of a page."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        for axes, (direction, arrow) in zip(figure.subplots(1, 2), ARROWS.items(), strict=True):
            draw(axes, direction)
            axes.set_title(arrow.replace("->", "→"))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    return "<svg" + stream.getvalue().partition("<svg")[2]
