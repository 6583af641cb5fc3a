"""Curves of a run, from its log."""

import logging
from pathlib import Path

from rwkvsearch.retrieval.training.loop import LOG_FILE, read_log

logger = logging.getLogger(__name__)
CURVES_FILE = "curves.png"


def draw_curves(folder: Path) -> Path | None:
    """Draw loss and recall of `folder/log.jsonl` over the steps as `curves.png`.

    Returns None without a log, or without matplotlib, which says so.
    """
    lines = read_log(folder / LOG_FILE)
    if not lines:
        return None
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.warning("no curves: pip install 'rwkvsearch[train]' brings matplotlib")
        return None
    steps = [line["step"] for line in lines]
    measured = sorted({name for line in lines for name in line if "@" in name})
    known = ("loss", "contrast", "image", "patch", "text", "relation")
    terms = [name for name in known if any(name in line for line in lines)]
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, names, title in zip(
        figure.subplots(1, 2), (terms, measured), ("loss", "recall, percent"), strict=True
    ):
        for name in names:
            axes.plot(steps, [line.get(name) for line in lines], label=name)
        axes.set(xlabel="step", title=title)
        if names:
            axes.legend()
    path = folder / CURVES_FILE
    figure.savefig(path, dpi=100)
    return path
