"""`rwkvsearch tune`: which kind of ann, and the table that says why."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.ui.options import LibraryOption, library_folder
from rwkvsearch.ui.saving import SaveOption, check_saving, save
from rwkvsearch.ui.telling import telling

if TYPE_CHECKING:
    from rwkvsearch.indexer.ann.tune import Measured, Tuning
    from rwkvsearch.indexer.library import Library, ModelInfo
    from rwkvsearch.indexer.results import MeasuredData


def tune(
    library: LibraryOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model id, or how it begins; default: the one that embedded most."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Hits of a query.")] = 10,
    queries: Annotated[
        int, typer.Option(min=1, help="Images to ask with, and as many texts if there are any.")
    ] = 200,
    kinds: Annotated[
        list[str] | None,
        typer.Option(help="Compare only this faiss type, such as IVF,SQ8; repeatable."),
    ] = None,
    target_recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the exact hits that must be found.")
    ] = 0.99,
    to_save: SaveOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the kinds of index on the library's own pictures, and use the best one.

    The fastest one that reaches --target-recall is chosen (below 20,000 pictures the exact one,
    unless --kinds names others), published, and kept for later runs of `index`. Searching and
    indexing go on meanwhile.
    """
    from rwkvsearch.indexer.ann.kinds import Kind
    from rwkvsearch.indexer.ann.tune import choose_model
    from rwkvsearch.indexer.ann.tune import tune as measure
    from rwkvsearch.indexer.library import Library

    asked = [Kind.parse(name) for name in kinds] if kinds else None
    with Library.open(library_folder(library)) as opened, telling() as progress:
        chosen = choose_model(opened, model)
        check_saving(library, to_save)
        data = _data(opened, chosen) if to_save else None
        found = measure(
            opened,
            chosen,
            k=k,
            queries=queries,
            kinds=asked,
            target=target_recall,
            progress=progress,
        )
    typer.echo((tuning_as_json if as_json else tuning_as_table)(found))
    if to_save:
        from rwkvsearch.indexer.results import MeasuredModel

        about = MeasuredModel(chosen.model_id, chosen.weights_sha256, chosen.preprocessing_id)
        settings = {"k": k, "queries": queries, "target_recall": target_recall, "device": "cpu"}
        save(library, "tune", about, data, settings | {"kinds": kinds}, tuning_object(found))


def _data(library: "Library", model: "ModelInfo") -> "MeasuredData":
    """The pictures of the library that are searched, as a set of data."""
    from rwkvsearch.data.fingerprint import fingerprint
    from rwkvsearch.indexer.results import MeasuredData, searched_contents

    hashes = searched_contents(library, model)
    print_of = fingerprint((one,) for one in hashes)
    return MeasuredData(library.place.name, None, len(hashes), None, None, print_of)


def tuning_as_table(found: "Tuning") -> str:
    """Return one line a kind, the chosen one marked, and below it how it was measured."""
    head = f"{'kind':<24}{'search':<18}{'build':>9}{'images':>8}{'texts':>8}"
    lines = [f"  {head}{'p50':>9}{'p99':>9}{'bytes':>7}"]
    lines += [_line(one, one.kind == found.chosen) for one in found.measured]
    asked = f"{found.queries:,} images" + (f" and {found.texts:,} texts" if found.texts else "")
    return "\n".join(
        [
            *lines,
            f"> {found.why}; `rwkvsearch index` keeps to it",
            f"{found.rows:,} pictures of {found.model_id}, asked with {asked}, one at a time",
            f"images, texts: ann_recall@{found.k}; p50, p99: ms from end to end; bytes: a picture",
        ]
    )


def tuning_as_json(found: "Tuning") -> str:
    """Return the same as one object."""
    return json.dumps(tuning_object(found), indent=2)


def tuning_object(found: "Tuning") -> dict[str, Any]:
    """Return what `--json` prints and `--save` keeps."""
    rows = [
        {
            "kind": one.kind,
            "faiss": one.factory,
            "search": one.search,
            "build_seconds": round(one.seconds, 3),
            "ann_recall_images": round(one.images, 4),
            "ann_recall_texts": None if one.texts is None else round(one.texts, 4),
            "p50_ms": round(one.p50, 3),
            "p99_ms": round(one.p99, 3),
            "bytes_per_vector": round(one.bytes_per_vector, 1),
        }
        for one in found.measured
    ]
    asked = {"k": found.k, "queries": found.queries, "texts": found.texts, "target": found.target}
    about = {"model": found.model_id, "images": found.rows} | asked
    return about | {"chosen": found.chosen, "why": found.why, "kinds": rows}


def _line(one: "Measured", chosen: bool) -> str:
    search = ", ".join(f"{name} {value}" for name, value in one.search.items() if value != 1)
    texts = "" if one.texts is None else f"{one.texts:.3f}"
    return (
        f"{'>' if chosen else ' '} {one.factory:<24}{search:<18}{one.seconds:>7.1f} s"
        f"{one.images:>8.3f}{texts:>8}{one.p50:>9.2f}{one.p99:>9.2f}{one.bytes_per_vector:>7.0f}"
    )
