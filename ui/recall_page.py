"""A page with the figures of `bench recall`, whole in one file: it loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.data.files import replacing
from rwkvsearch.ui.recalls import ARROWS, Beside, MeasuredRecall, headline, published_label, steps
from rwkvsearch.ui.words import printable

if TYPE_CHECKING:
    from rwkvsearch.retrieval.ranks import Direction, Figures

_HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title} - rwkvsearch</title>
<style>
body {{ margin: 0 auto; max-width: 70rem; padding: clamp(1rem, 3vw, 2.5rem); background: #fafaf8;
  color: #1d1d1b; font: 1rem/1.45 system-ui, sans-serif }}
h1 {{ font-size: 1.6rem; margin: 0 }}
h2 {{ font-size: 1.15rem; margin: 2rem 0 .5rem }}
p {{ color: #55554f; margin: .4rem 0 }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }}
th, td {{ padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e2e2dc;
  white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left }}
tr.step td {{ color: #63635e; border-bottom-color: #f0f0ec }}
tr.step td:first-child {{ padding-left: 1.8rem }}
svg {{ width: 100%; height: auto }}
</style>
<header>
<h1>{title}</h1>
<p>{about}</p>
</header>
<main>
"""
_COLUMNS = ("", "R@1", "R@5", "R@10", "median rank", "mean rank", "MRR")
_DASH = "–"


def check_page(path: Path) -> None:
    """Complain before anything is measured where no page can be made.

    Raises:
        RwkvSearchError: there is no matplotlib, or no such folder.
    """
    from rwkvsearch.ui.recall_plots import check_matplotlib

    check_matplotlib()
    if not path.absolute().parent.is_dir():
        raise RwkvSearchError(f"cannot write {printable(path)}: no folder {path.absolute().parent}")


def write_page(path: Path, measured: Sequence[MeasuredRecall], about: Beside) -> None:
    """Write the page to `path`, replaced whole or not at all.

    Raises:
        RwkvSearchError: it cannot be written.
    """
    text = "".join(recall_page(measured, about))
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise RwkvSearchError(f"cannot write {printable(path)}: {error.strerror}") from error


def recall_page(measured: Sequence[MeasuredRecall], about: Beside) -> Iterator[str]:
    """Give the page in parts."""
    from rwkvsearch.indexer.machine import describe_machine
    from rwkvsearch.ui.recall_plots import bars, curves

    title = " ".join(filter(None, ("Recall on", about.name, about.split)))
    yield _HEAD.format(title=_text(title), about=_text(headline(measured[0].result, about)))
    for one in measured:
        how = f"{one.device}, {one.precision}, prefix {one.result.prefix!r}"
        yield f"<p>{_text(f'{one.model_id}: {how}')}</p>\n"
    yield f"<h2>Recall at 1, 5 and 10</h2>\n{bars(measured, about)}\n"
    for direction, arrow in ARROWS.items():
        yield f"<h2>{_text(arrow.replace('->', '→'))}</h2>\n"
        yield f'<div class="wide"><table>\n<tr>{_cells("th", _COLUMNS)}</tr>\n'
        yield from _rows(measured, about, direction)
        yield "</table></div>\n"
    yield f"<p>{_text(about.note)}</p>\n" if about.note else ""
    yield f"<h2>Answered among the first k</h2>\n{curves(measured)}\n"
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items() if value)
    yield f"<p>{_text(machine)}</p>\n</main>\n</html>\n"


def _rows(measured: Sequence[MeasuredRecall], about: Beside, direction: Direction) -> Iterator[str]:
    for one in measured:
        result = one.result
        figures, ends = result.figures["pessimistic"][direction], result.intervals[direction]
        values = [
            f"{value:.1f} [{ends[name][0]:.1f}, {ends[name][1]:.1f}]"
            for name, value in figures.recall.items()
        ]
        yield f"<tr>{_cells('td', (one.model_id, *values, *_ranks(figures)))}</tr>\n"
        for name, recall in steps(result, direction):
            values = [f"{v:.1f} ({v - figures.recall[k]:+.2f})" for k, v in recall.items()]
            yield f'<tr class="step">{_cells("td", (name, *values, *[_DASH] * 3))}</tr>\n'
        if folds := result.folds:
            mean = folds.figures["pessimistic"][direction]
            label = f"mean of {folds.number} folds of {folds.images:,} images"
            values = [f"{value:.1f}" for value in mean.recall.values()]
            yield f'<tr class="step">{_cells("td", (label, *values, *_ranks(mean)))}</tr>\n'
    for row in about.published:
        values = [f"{value:.1f}" for value in getattr(row, direction).values()]
        label = f"{published_label(row, measured)} ({row.source})"
        yield f"<tr>{_cells('td', (label, *values, *[_DASH] * 3))}</tr>\n"


def _ranks(figures: Figures) -> tuple[str, str, str]:
    return f"{figures.median_rank:g}", f"{figures.mean_rank:.1f}", f"{figures.mrr:.3f}"


def _cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"<{tag}>{_text(value)}</{tag}>" for value in values)


def _text(text: str) -> str:
    return escape(printable(text))
