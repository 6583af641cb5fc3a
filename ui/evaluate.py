"""`rwkvsearch eval`: how well one's own queries find one's own pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.retrieval.models import Precision
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, PrecisionOption
from rwkvsearch.ui.query import EngineOptions, open_engine
from rwkvsearch.ui.saving import SaveOption, check_saving, save

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library, ModelInfo
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.query import Term
    from rwkvsearch.retrieval.questions import Answer, Question

KS = (1, 5, 10)


def evaluate(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="QUERIES.tsv", help="Lines of: query TAB path [TAB path...]"),
    ],
    models: Annotated[
        str | None,
        typer.Option(help="Compare these, such as starter,b32-yfcc15m or starter:int8."),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", "-k", min=1, max=1000, help="For recall@k; repeatable: 1, 5, 10."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Take queries as they are: no +, - or weights.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the rank and best hit of every query.")
    ] = False,
    library: LibraryOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure how well your own queries find your own pictures.

    A query is answered at k if any picture that it should find is among the first k hits. Paths are
    absolute, or lie beside the file of queries or below an indexed folder. A query without a path
    should find nothing: it is right if there is no confident match.
    """
    from rwkvsearch.retrieval.questions import read_questions, terms_of

    questions = read_questions(file)
    ks = sorted({*(k or KS)})
    terms = {question: terms_of(question, file, plain=plain) for question in questions}
    check_saving(library, to_save)
    with ExitStack() as opened:
        engines = [
            opened.enter_context(open_engine(ctx, EngineOptions(library, model, device, exactness)))
            for model, exactness in _settings(models, precision)
        ]
        right = _right(engines[0].library, file, questions)
        results = _results(engines, {q: terms[q] for q in right}, right, ks[-1])
        names = [engine.encoder.model_id for engine in engines]
        models_of = [engine.model for engine in engines]
    show = as_json_object if as_json else as_table
    typer.echo(show(names, results, ks, verbose=verbose))
    if to_save:
        figures = [_figures(*pair, ks) for pair in zip(names, results, strict=True)]
        _save(library, file, right, models_of, figures, {"k": ks, "plain": plain})


def _save(
    library: str | None,
    file: Path,
    right: dict[Question, set[int]],
    models: Sequence[ModelInfo],
    figures: Sequence[dict[str, Any]],
    settings: dict[str, Any],
) -> None:
    """Keep a result for each model; questions and names tell one file of queries from another."""
    from rwkvsearch.data.fingerprint import fingerprint
    from rwkvsearch.indexer.results import MeasuredData, MeasuredModel

    print_of = fingerprint((question.text, *sorted(question.expected)) for question in right)
    wanted = len(set().union(*right.values()))
    data = MeasuredData(file.stem, None, wanted, None, None, print_of)
    for model, found in zip(models, figures, strict=True):
        about = MeasuredModel(model.model_id, model.weights_sha256, model.preprocessing_id)
        save(library, "eval", about, data, settings, found)


def _settings(
    models: str | None, precision: Precision | None
) -> list[tuple[str | None, Precision | None]]:
    """The models to compare, each with its precision."""
    settings: list[tuple[str | None, Precision | None]] = []
    for part in models.split(",") if models else []:
        name, _, own = part.strip().partition(":")
        exactness = next((p for p in get_args(Precision) if p == own), None)
        if not name or own and exactness is None:
            raise typer.BadParameter(f"--models {part!r}: write NAME, or NAME:PRECISION")
        settings.append((name, exactness or precision))
    return settings or [(None, precision)]


def _right(library: Library, file: Path, questions: Sequence[Question]) -> dict[Question, set[int]]:
    """The images that each question should find; what is not in the library is named."""
    from rwkvsearch.retrieval.questions import expected_images
    from rwkvsearch.ui.words import counted, printable

    known, missing = expected_images(library, file, questions)
    for name in missing:
        typer.echo(f"rwkvsearch: not in the library: {printable(name)}", err=True)
    if not known:
        raise LibraryError(f"{file}: none of the expected paths is in {library.name}")
    right = {q: {known[name] for name in q.expected if name in known} for q in questions}
    left_out = [q for q in questions if q.expected and not right[q]]
    if missing:
        paths = counted(len(missing), "expected path")
        which = f"{len(left_out)} of {len(questions)} queries left out"
        typer.echo(f"rwkvsearch: {paths} not in the library; {which}", err=True)
    return {q: images for q, images in right.items() if q not in left_out}


def _results(
    engines: Sequence[SearchEngine],
    terms: dict[Question, tuple[Term, ...]],
    right: dict[Question, set[int]],
    first: int,
) -> list[list[Answer]]:
    from rwkvsearch.retrieval.questions import ask
    from rwkvsearch.ui.render import counting
    from rwkvsearch.ui.words import counted

    results = []
    expected = sorted(set().union(*right.values()))
    with counting(len(engines) * len(terms)) as progress:
        for engine in engines:
            there, _ = engine.library.embeddings_of(engine.model, expected)
            if lost := len(expected) - len(there):
                pictures = counted(lost, "expected picture")
                name = engine.encoder.model_id
                typer.echo(f"rwkvsearch: {name} has not embedded {pictures}: not found", err=True)
            answers = []
            for question, asked in terms.items():
                answers.append(ask(engine, question, asked, right[question], first))
                progress(1)
            results.append(answers)
    return results


def as_table(
    names: Sequence[str], results: Sequence[list[Answer]], ks: Sequence[int], *, verbose: bool
) -> str:
    """Return one line a model; with `verbose`, one a query before."""
    from rwkvsearch.retrieval.questions import summarise

    width = max(len("model"), *map(len, names))
    heads = [f"recall@{k}" for k in ks]
    lines = [f"{'model':<{width}}  queries  {'  '.join(heads)}     MRR  median rank"]
    summaries = [summarise(answers, ks) for answers in results]
    if summaries[0].absent:
        lines[0] += "  silent"
    for name, found in zip(names, summaries, strict=True):
        shares = [f"{found.recall[k]:>{len(head)}.1f}" for k, head in zip(ks, heads, strict=True)]
        line = f"{name:<{width}}  {found.queries:>7,}  {'  '.join(shares)}  {found.mrr:>6.3f}"
        line += f"  {_rank(found.median_rank):>11}"
        lines.append(line + (f"  {found.silent:>2}/{found.absent}" if found.absent else ""))
    details = [_details(*pair) for pair in zip(names, results, strict=True)] if verbose else []
    return "\n".join([*details, *lines])


def _details(name: str, answers: Sequence[Answer]) -> str:
    from rwkvsearch.ui.words import printable

    lines = [f"{name}\n{'rank':>6}  {'confidence':>10}  query -> best hit"]
    for answer in answers:
        rank = _rank(answer.rank) if answer.question.expected else "-"
        best = answer.best
        shown = printable(best.path) if best else "nothing"
        confidence = f"{best.confidence:>10.2f}" if best else f"{'-':>10}"
        lines.append(f"{rank:>6}  {confidence}  {printable(answer.question.text)} -> {shown}")
    return "\n".join([*lines, ""])


def _rank(rank: float | None) -> str:
    from rwkvsearch.retrieval.questions import DEPTH

    return f">{DEPTH:,}" if rank is None else f"{rank:,g}"


def as_json_object(
    names: Sequence[str], results: Sequence[list[Answer]], ks: Sequence[int], *, verbose: bool
) -> str:
    """Return one object: `models` by their figures, with `verbose` each query of each."""
    models = []
    for name, answers in zip(names, results, strict=True):
        figures = _figures(name, answers, ks)
        asked = {"asked": [_as_object(answer) for answer in answers]} if verbose else {}
        models.append(figures | asked)
    return json.dumps({"models": models}, indent=2)


def _figures(name: str, answers: Sequence[Answer], ks: Sequence[int]) -> dict[str, Any]:
    """Return what `--json` prints of a model and `--save` keeps."""
    from rwkvsearch.retrieval.questions import summarise

    found = summarise(answers, ks)
    return {
        "model": name,
        "queries": found.queries,
        "recall": {f"recall@{k}": round(share, 2) for k, share in found.recall.items()},
        "mrr": round(found.mrr, 4),
        "median_rank": found.median_rank,
        "absent": found.absent,
        "silent": found.silent,
    }


def _as_object(answer: Answer) -> dict[str, Any]:
    best = answer.best
    return {
        "query": answer.question.text,
        "expected": list(answer.question.expected),
        "rank": answer.rank,
        "best": str(best.path) if best else None,
        "confidence": round(best.confidence, 6) if best else None,
    }
