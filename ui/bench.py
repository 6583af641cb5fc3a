"""`rwkvsearch bench`: how good a model is on data of one's own, and how fast a machine."""

import typer

from rwkvsearch.ui.bench_classify import bench_classify
from rwkvsearch.ui.bench_probe import bench_probe
from rwkvsearch.ui.bench_recall import bench_recall
from rwkvsearch.ui.bench_speed import bench_speed

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure a model on your own data, and your machine."
)
bench_app.command("recall")(bench_recall)
bench_app.command("classify")(bench_classify)
bench_app.command("probe")(bench_probe)
bench_app.command("speed")(bench_speed)
