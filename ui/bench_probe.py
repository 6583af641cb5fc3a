"""`rwkvsearch bench probe`: a linear classifier on the features of the image tower."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.retrieval.models import EXACT
from rwkvsearch.ui.bench_options import (
    BenchPrecisionOption,
    PerClassOption,
    encoder_settings,
    measured_model,
)
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption
from rwkvsearch.ui.saving import SaveOption, check_saving, save

if TYPE_CHECKING:
    from rwkvsearch.retrieval.probe import ProbeResult
    from rwkvsearch.retrieval.probe_sets import ProbeSets

Json = dict[str, Any]
FEATURES = "before normalisation"


def bench_probe(
    train: Annotated[
        str | None, typer.Option(help="Labelled pictures to train on, as in `bench classify`.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Those to test on.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Instead of both: a fifth of each class is the test.")
    ] = None,
    per_class: PerClassOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: BenchPrecisionOption = EXACT,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a linear probe: logistic regression on the features of the image tower.

    The L2 strength is chosen on a fifth of the training pictures. Features are
    kept in features/ of $RWKVSEARCH_HOME, so that a second run encodes nothing.
    """
    if (data is None) == (train is None) or (train is None) != (test is None):
        raise typer.BadParameter("give --train and --test, or --data")

    from rwkvsearch.data.labelled import open_labelled
    from rwkvsearch.ui.accuracies import tell_unreadable

    learnt = open_labelled(data or train or "")
    asked = open_labelled(test) if test is not None else None
    check_saving(library, to_save)

    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.feature_cache import feature_cache
    from rwkvsearch.retrieval.models import DEFAULT_MODEL
    from rwkvsearch.retrieval.probe import check_sklearn, measure_probe
    from rwkvsearch.retrieval.probe_sets import check_labels, embed_probe_sets
    from rwkvsearch.ui.render import counting

    check_sklearn()
    if asked is not None:
        check_labels(learnt, asked)
    encoder = Encoder.load(model or DEFAULT_MODEL, device=device, precision=precision)
    with counting(None) as progress:
        sets = embed_probe_sets(encoder, learnt, asked, feature_cache(encoder), progress)
    tell_unreadable(sets.unreadable)
    with counting(None) as progress:
        result = measure_probe(sets.train, sets.test, sets.names, progress)
    figures = _object(encoder.model_id, sets, result, per_class)
    typer.echo(
        json.dumps(figures, indent=2) if as_json else _text(figures, sets, result, per_class)
    )
    if to_save:
        from rwkvsearch.indexer.results import MeasuredData

        counts = (result.accuracy.images, None, result.accuracy.classes)
        about = MeasuredData((asked or learnt).name, None, *counts, sets.fingerprint)
        settings = {"features": FEATURES, "split": asked is None} | encoder_settings(encoder)
        save(library, "probe", measured_model(encoder), about, settings, figures)


def _object(model_id: str, sets: ProbeSets, result: ProbeResult, per_class: bool) -> Json:
    from rwkvsearch.ui.accuracies import accuracy_object

    values = accuracy_object(result.accuracy, sets.unreadable, per_class)
    values |= {
        "features": FEATURES,
        "train": result.train,
        "validation": result.validation,
        "test_also_in_train": result.shared,
        "l2": result.best.l2,
        "validation_top1": round(result.best.top1, 2),
        "converged": result.converged,
        "tried": [
            {
                "l2": one.l2,
                "top1": round(one.top1, 2),
                "loss": round(one.loss, 4),
                "converged": one.converged,
            }
            for one in result.tried
        ],
    }
    return {"model": model_id, "probe": "logistic regression"} | values


def _text(figures: Json, sets: ProbeSets, result: ProbeResult, per_class: bool) -> str:
    from rwkvsearch.ui.accuracies import classes_of, figures_as_text, left_out, pictures_of, shown
    from rwkvsearch.ui.words import counted

    accuracy, ends = result.accuracy, [result.tried[0], result.tried[-1]]
    learnt = f"trained on {result.train:,}, {result.validation:,} of them held out for the strength"
    strength = (
        f"L2 strength {result.best.l2:.3g} of {len(result.tried)} tried, {result.best.top1:.1f} % "
        "on those held out"
    )
    lines = [
        f"{figures['model']}: linear probe, {figures_as_text(accuracy)}",
        f"{pictures_of(accuracy)}, {classes_of(accuracy)}; {learnt}{left_out(sets.unreadable)}",
        f"{strength}; {sets.train.features.shape[1]} features, {FEATURES}",
    ]
    if result.best in ends and result.best.top1 < 100:
        lines.append("note: that is the end of what is tried; the best may lie beyond")
    if not result.converged:
        lines.append("note: the classifier was still improving when it was stopped")
    if result.shared:
        shared = counted(result.shared, "picture")
        lines.append(f"note: trained on {shared} of the test, too: the figures are too good")
    return shown(lines, accuracy, per_class)
