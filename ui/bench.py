"""`rwkvsearch bench`: how good a model is on data of one's own."""

import typer

from rwkvsearch.ui.bench_classify import bench_classify
from rwkvsearch.ui.bench_probe import bench_probe
from rwkvsearch.ui.bench_recall import bench_recall

bench_app = typer.Typer(no_args_is_help=True, help="Measure a model on your own data.")
bench_app.command("recall")(bench_recall)
bench_app.command("classify")(bench_classify)
bench_app.command("probe")(bench_probe)
