"""`rwkvsearch train`: which run, from which data, and what becomes of it."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[
        Path | None, typer.Argument(help="TOML file of the run; see docs/training.md.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A run that is known: starter, starter-contrast, b32, b16 or finetune."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder where the paths of the run begin; default: that of the TOML file."
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option(help="Folder of checkpoints, log and curves; goes on where it stopped.")
    ] = Path("runs/train"),
    name: Annotated[
        str | None, typer.Option(help="Install the best weights as the model of this name.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Go on from this model, or the folder of a run.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of those of the run.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="cpu, cuda, ...; default: $RWKVSEARCH_DEVICE, else cpu."),
    ] = None,
    _library: Annotated[
        Path | None,
        typer.Option("--library", help="Taken by every command; training uses no library."),
    ] = None,
) -> None:
    """Train or fine-tune a model on pictures with texts.

    Ctrl-C is safe: the same command goes on from the last checkpoint, to the same result.
    Several GPUs or machines: start it with `torchrun --no-python rwkvsearch train ...`.
    """
    from dataclasses import replace

    from rwkvsearch.retrieval.training.config import load_config, load_preset
    from rwkvsearch.retrieval.training.export import check_name, install_run
    from rwkvsearch.retrieval.training.plots import draw_curves
    from rwkvsearch.retrieval.training.run import run as train_run
    from rwkvsearch.ui.render import TrainingProgress

    if (config is None) == (preset is None):
        raise typer.BadParameter("name a TOML file or a --preset, and not both")
    if name is not None:
        check_name(to, name)  # refuse it before hours of training
    settings = load_config(config) if config else load_preset(preset or "")
    recipe = replace(settings.recipe, steps=steps or settings.recipe.steps)
    if start and Path(start).is_dir():
        start = str(Path(start).absolute())
    settings = replace(settings, start=start or settings.start, recipe=recipe)
    home = data or (config.parent if config else Path())
    with TrainingProgress(recipe.steps) as progress:
        try:
            first = train_run(
                settings, home, to, device=device, told=progress.tell, progress=progress
            )
        except KeyboardInterrupt:
            progress.tell("stopped; the same command goes on from the last checkpoint, if any")
            raise typer.Exit(130) from None
    if not first:
        return
    if drawn := draw_curves(to):
        typer.echo(f"curves: {drawn}", err=True)
    if name is not None:
        typer.echo(f"installed {install_run(to, name)}")
