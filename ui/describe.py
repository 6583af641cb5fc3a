"""`rwkvsearch describe`: who describes, what, and where it goes."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.indexer.address import Place
from rwkvsearch.ui.options import LibraryOption, library_folder

if TYPE_CHECKING:
    from rwkvsearch.data.descriptions.cache import Cache
    from rwkvsearch.data.descriptions.protocols import Captioner, Tagger
    from rwkvsearch.data.descriptions.recipe import Recipe
    from rwkvsearch.data.descriptions.texts import Item
    from rwkvsearch.retrieval.describing.endpoint import Endpoint


class InstructionFormat(StrEnum):
    """Of `--export-instructions`."""

    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"


def describe(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Folder of pictures, Karpathy or COCO json, or .tar shards; "
            "default: the pictures of the library."
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder for WebDataset shards, or a .parquet or .jsonl file."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a caption set; default: test if there is one, else all.")
    ] = None,
    folder_labels: Annotated[
        bool, typer.Option("--folder-labels", help="Take folder names as raw texts.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Describe only so many, from the first on.")
    ] = None,
    tagger: Annotated[
        str,
        typer.Option(
            help="own, none, classifier:MODEL, detector:MODEL, open-detector:MODEL "
            "(transformers models) or command:COMMAND."
        ),
    ] = "own",
    vocabulary: Annotated[
        Path | None, typer.Option(help="Words to look for, one a line; default: 540 everyday ones.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Tags below are left out.")
    ] = 0.5,
    captioner: Annotated[
        str | None,
        typer.Option(help="transformers model that writes the synthetic text; default: composed."),
    ] = None,
    captioner_prompt: Annotated[
        str, typer.Option(help="Start of the caption, or question to a chat model.")
    ] = "",
    llm: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible address, http://host:8000/v1, that writes the generated text; "
            "default: composed."
        ),
    ] = None,
    llm_model: Annotated[
        str | None, typer.Option(help="Model to ask; default: the only one that is served.")
    ] = None,
    llm_key_file: Annotated[
        Path | None, typer.Option(help="File with the key; default: $RWKVSEARCH_LLM_KEY.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions under way at once.")] = 8,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 120,
    tries: Annotated[
        int, typer.Option(min=1, help="Per question, when the server is busy or fails.")
    ] = 6,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of the answers.")] = 0.2,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 120,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, from a sample; then stop.")
    ] = False,
    probes: Annotated[
        int, typer.Option(min=0, help="Questions that --estimate really asks, with --llm.")
    ] = 3,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens asked.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens answered.")
    ] = None,
    export_instructions: Annotated[
        Path | None,
        typer.Option(help="Also write the answers as an instruction set for LLaMA-Factory."),
    ] = None,
    form: Annotated[
        InstructionFormat, typer.Option("--format", help="Of the instruction set.")
    ] = InstructionFormat.ALPACA,
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures in one shard.")] = 1000,
    cache: Annotated[
        Path | None, typer.Option(help="Default: descriptions.sqlite in $RWKVSEARCH_HOME.")
    ] = None,
    library: LibraryOption = None,
    model: Annotated[
        str | None, typer.Option(help="Of our own tagger; see `rwkvsearch model list`.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; default: $RWKVSEARCH_DEVICE, else cpu.")
    ] = None,
) -> None:
    """Write raw, synthetic and generated texts for every picture of a set.

    Without --captioner and --llm everything happens here, out of tags and measured colours. Stop
    with Ctrl-C at any time: run the same command to go on, nothing is computed or asked twice.
    """
    if to is None and not estimate:
        raise typer.BadParameter("say where to write with --to, or ask for an --estimate")
    if source is not None and library is not None:
        raise typer.BadParameter("give either a set of pictures or --library")
    if export_instructions and not llm:
        raise typer.BadParameter("--export-instructions takes the answers of a model: add --llm")

    from rwkvsearch.data.descriptions.cache import Cache
    from rwkvsearch.retrieval.models import home_folder

    items = _items(source, library_folder(library), split, folder_labels)[:limit]
    device = device or os.environ.get("RWKVSEARCH_DEVICE")
    recipe = _recipe(
        tagger=_tagger(tagger, vocabulary, model, device),
        captioner=_captioner(captioner, captioner_prompt, device),
        language_model=_endpoint(
            llm,
            llm_model,
            llm_key_file,
            concurrency=concurrency,
            timeout=timeout,
            tries=tries,
            temperature=temperature,
            max_tokens=max_tokens,
        ),
        min_confidence=min_confidence,
    )
    with Cache(cache or home_folder() / "descriptions.sqlite") as kept:
        if to is None or estimate:
            _show_estimate(items, recipe, kept, probes, price_in, price_out)
            return
        _run(items, recipe, kept, to, shard_size)
    if export_instructions:
        _export(to, export_instructions, form)


def _items(source: str | None, library: Place, split: str | None, labels: bool) -> "list[Item]":
    from rwkvsearch.data.descriptions.sources import find_items

    if source is not None:
        return find_items(source, split=split, folder_labels=labels)
    from rwkvsearch.retrieval.describing.choose import items_of_library

    return items_of_library(library)


def _tagger(
    spec: str, vocabulary: Path | None, model: str | None, device: str | None
) -> "Tagger | None":
    from rwkvsearch.data.descriptions.vocabulary import everyday_words, read_words
    from rwkvsearch.retrieval.describing.choose import make_tagger

    words = read_words(vocabulary) if vocabulary else everyday_words()
    return make_tagger(spec, words, model=model, device=device)


def _captioner(model: str | None, prompt: str, device: str | None) -> "Captioner | None":
    if model is None:
        return None
    from rwkvsearch.retrieval.describing.pipelines import TransformersCaptioner

    return TransformersCaptioner(model, device=device, prompt=prompt)


def _endpoint(
    url: str | None,
    model: str | None,
    key_file: Path | None,
    *,
    concurrency: int,
    timeout: float,
    tries: int,
    temperature: float,
    max_tokens: int,
) -> "Endpoint | None":
    if url is None:
        return None
    from rwkvsearch.retrieval.describing.access import only_model, read_key
    from rwkvsearch.retrieval.describing.endpoint import Endpoint

    key = read_key(key_file)
    return Endpoint(
        url,
        model or only_model(url, key),
        key,
        concurrency=concurrency,
        timeout=timeout,
        tries=tries,
        temperature=temperature,
        max_tokens=max_tokens,
    )


def _recipe(
    *,
    tagger: "Tagger | None",
    captioner: "Captioner | None",
    language_model: "Endpoint | None",
    min_confidence: float,
) -> "Recipe":
    from rwkvsearch.data.descriptions.recipe import PICTURES_AT_ONCE, Recipe

    busy = 4 * language_model.concurrency if language_model else PICTURES_AT_ONCE
    return Recipe(tagger, captioner, language_model, min_confidence, asked_at_once=busy)


def _run(
    items: "list[Item]", recipe: "Recipe", cache: "Cache", target: Path, shard_size: int
) -> None:
    from rwkvsearch.data.descriptions.pipeline import describe as described
    from rwkvsearch.data.descriptions.writers import open_writer
    from rwkvsearch.ui.render import DescribeProgress

    with DescribeProgress(len(items), target) as progress:
        try:
            with open_writer(target, shard_size=shard_size, sources=items) as writer:
                for item in described(items, recipe, cache):
                    writer.add(item)
                    progress(item)
        except KeyboardInterrupt:
            progress.close()
            typer.echo("stopped; what is done is kept, run the same command to go on", err=True)
            raise typer.Exit(130) from None
    typer.echo(progress.summary())


def _show_estimate(
    items: "list[Item]",
    recipe: "Recipe",
    cache: "Cache",
    probes: int,
    price_in: float | None,
    price_out: float | None,
) -> None:
    from rwkvsearch.retrieval.describing.estimate import estimate
    from rwkvsearch.ui.render import estimate_as_text

    found = estimate(items, recipe, cache, probes=probes, price_in=price_in, price_out=price_out)
    typer.echo(estimate_as_text(found))


def _export(source: Path, target: Path, form: InstructionFormat) -> None:
    from rwkvsearch.data.descriptions.instructions import export_instructions
    from rwkvsearch.data.descriptions.store import load_descriptions

    number = export_instructions(load_descriptions(source), target, form.value)
    typer.echo(
        f"{number:,} instructions: {target}, listed in {target.with_name('dataset_info.json')}"
    )
