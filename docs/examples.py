"""Write `docs/examples.md`: real queries, their real answers, and the pictures.

python docs/examples.py     # in the environment of the project, from anywhere
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
PHOTOS = Path("data/samples/photos")
PAGE = ROOT / "docs" / "examples.md"
STRIPS = ROOT / "docs" / "examples"
HITS = 5
TILE = (150, 112)
"""Of a picture in a strip, in pixels."""

EXAMPLES = [
    (
        "Words",
        "A sentence about the picture, or just what is in it.",
        ["snowy mountains and a lake"],
    ),
    (
        "A picture",
        "What looks like this picture? The picture itself comes first where it is in the library.",
        ["--image", f"{PHOTOS}/stone-windmill.jpg"],
    ),
    (
        "A part of a picture",
        "Only the right half of a picture with two things in it.",
        ["--image", f"{PHOTOS}/wine-and-drum.jpg", "--crop", "0.5,0,1,1"],
    ),
    (
        "A picture, turned by words",
        "Like this city, but at night.",
        [f"./{PHOTOS}/city-rooftops.jpg + at night"],
    ),
    ("Without", "Flowers, but no blue ones.", ["a flower - blue"]),
    ("All of them", "Each has to hold: the weaker one decides.", ["a bridge", "--and", "water"]),
    (
        "Only some",
        "Filters come before the search: the best of those that pass.",
        ["an animal", "--orientation", "portrait"],
    ),
    (
        "Words for a picture",
        "The best of a file with one text a line, here all captions of the samples.",
        ["--image", f"{PHOTOS}/coffee.jpg", "--to", "text", "--captions", "captions.txt"],
    ),
    (
        "What is not there",
        "Hits are shown; that none stands out is said.",
        ["a giraffe"],
    ),
    ("Only if sure", "Or nothing at all.", ["a giraffe", "--min-confidence", "0.5"]),
]

HEAD = """# Examples

Written by `docs/examples.py` with the starter model, over the {number} sample photographs of this
repository ([where they are from](../data/samples/README.md)). Nothing is chosen by its result: the
queries were written first, and this is what came out, with its mistakes.
"""


def main() -> None:
    """Index the samples into a folder of its own, ask, write the page."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "library"
        environment = os.environ | {"RWKVSEARCH_HOME": folder, "COLUMNS": "100"}
        captions = Path(folder) / "captions.txt"
        captions.write_text("\n".join(sample_captions()) + "\n", "utf-8")
        run(["index", str(PHOTOS), "--library", str(library)], environment)
        STRIPS.mkdir(exist_ok=True)
        number = len(list((ROOT / PHOTOS).glob("*.jpg")))
        parts = [HEAD.format(number=number)]
        for title, about, asked in EXAMPLES:
            real = [str(captions) if word == captions.name else word for word in asked]
            parts.append(
                example(title, about, asked, [*real, "-k", str(HITS)], environment, library)
            )
    PAGE.write_text("\n".join(parts), "utf-8")


def example(
    title: str,
    about: str,
    shown: list[str],
    asked: list[str],
    environment: dict[str, str],
    library: Path,
) -> str:
    """One section: the command, what it printed, and a strip of the pictures."""
    command = ["query", *asked, "--library", str(library)]
    printed = run(command, environment).replace(f"{ROOT}/", "")
    hits = json.loads(run([*command, "--json"], environment, errors=False))["hits"]
    lines = [f"## {title}", "", about, "", f"    $ rwkvsearch query {shlex.join(shown)} -k {HITS}"]
    lines += [f"    {line}" for line in printed.splitlines()]
    paths = [hit["path"] for hit in hits if "path" in hit]
    if paths:
        name = "-".join(title.lower().replace(",", "").split()) + ".jpg"
        strip(paths).save(STRIPS / name, quality=80)
        names = ", ".join(Path(path).stem for path in paths)
        lines += ["", f"![{names}](examples/{name})"]
    return "\n".join([*lines, ""])


def run(arguments: list[str], environment: dict[str, str], *, errors: bool = True) -> str:
    """What a command of rwkvsearch prints, with what it says on stderr after it."""
    program = Path(sys.executable).with_name("rwkvsearch")
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout + (done.stderr if errors else "")


def strip(paths: list[str]) -> Image.Image:
    """The pictures beside one another, in the order of their rank."""
    width, height = TILE
    joined = Image.new("RGB", (len(paths) * (width + 4) - 4, height), "white")
    for at, path in enumerate(paths):
        with Image.open(path) as picture:
            tile = ImageOps.fit(ImageOps.exif_transpose(picture).convert("RGB"), TILE)
        joined.paste(tile, (at * (width + 4), 0))
    return joined


def sample_captions() -> list[str]:
    """Every caption of the sample photographs."""
    images = json.loads((ROOT / "data/samples/samples.json").read_text("utf-8"))["images"]
    return [sentence["raw"] for image in images for sentence in image["sentences"]]


if __name__ == "__main__":
    main()
