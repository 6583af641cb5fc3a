"""The map of a library: what is alike lies together, and changes are placed or laid out anew."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import update

from rwkvsearch.data.errors import LibraryError, ModelError
from rwkvsearch.indexer.ann.synthetic import Synthetic, enter_images, fill, root_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.maps import ADDED, LAID_OUT, PLACED, read_map
from rwkvsearch.indexer.tables import FileRow
from rwkvsearch.retrieval import mapping
from rwkvsearch.retrieval.mapping import compare, live_images, make_map
from rwkvsearch.retrieval.projection import lay_out, neighbours_kept, place

SOURCE = Synthetic(32, clusters=12)


@pytest.fixture
def library(tmp_path: Path) -> Any:
    with Library.create(tmp_path / "library") as library:
        fill(library, SOURCE, 300)
        yield library


def forget(library: Library, below: int) -> None:
    with library.write() as session:
        session.execute(update(FileRow).where(FileRow.image_id <= below).values(gone_at=1.0))


def add(library: Library, number: int, first: int = 301) -> None:
    model = library.models()[0]
    enter_images(library, root_of(library), model.key, first, SOURCE.images(number, 2**50))


def test_neighbours_stay_neighbours_and_it_is_the_same_each_time() -> None:
    embeddings = SOURCE.images(400)
    points = lay_out(embeddings)
    assert points.dtype == np.float32 and points.min() >= 0 and points.max() <= 1
    assert neighbours_kept(embeddings, points) > 0.3  # by chance 0.025
    shuffled = np.random.default_rng(0).permutation(points)
    assert neighbours_kept(embeddings, shuffled) < 0.06
    assert np.array_equal(points, lay_out(embeddings))


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 9])
def test_few_pictures(number: int) -> None:
    points = lay_out(SOURCE.images(number))
    assert points.shape == (number, 2) and np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == number


def test_pictures_that_are_all_the_same() -> None:
    points = lay_out(np.repeat(SOURCE.images(1), 20, axis=0))
    assert points.shape == (20, 2) and ((points >= 0) & (points <= 1)).all()


def test_placed_beside_the_nearest() -> None:
    known, new = SOURCE.images(300), SOURCE.images(60, part=7)
    points = lay_out(known)
    placed = place(new, known, points)
    both = np.concatenate([known, new]), np.concatenate([points, placed])
    assert neighbours_kept(*both, sample=360) > 0.3
    nearest = points[np.argmax(new @ known.T, axis=1)]
    assert np.median(np.linalg.norm(placed - nearest, axis=1)) < 0.05
    assert np.allclose(place(known[:1], known[:1], points[:1]), points[:1])


def test_new_ones_are_placed_and_gone_ones_left_out(library: Library) -> None:
    model = library.models()[0]
    first = make_map(library, model)
    assert first.made_of == len(first.ids) == 300 and (first.how == LAID_OUT).all()
    assert make_map(library, model).made_at == first.made_at  # nothing to do
    add(library, 20)
    forget(library, 10)
    standing = compare(first, live_images(library, model))
    assert (standing.lacking, len(standing.kept), standing.fits) == (20, 290, True)
    second = make_map(library, model)
    assert second.made_at == first.made_at and second.ids.tolist() == list(range(11, 321))
    assert np.array_equal(second.points[:290], first.points[10:])
    assert (second.how[290:] == ADDED).all() and second.made_of == 300
    found = read_map(library, model)
    assert found and np.array_equal(found.points, second.points)
    assert compare(found, live_images(library, model)).is_current


def test_many_changes_lay_out_anew(library: Library) -> None:
    model = library.models()[0]
    first = make_map(library, model)
    add(library, 40)
    make_map(library, model)
    add(library, 40, first=341)
    made = make_map(library, model)
    assert made.made_at > first.made_at and made.made_of == 380 and (made.how == LAID_OUT).all()
    forget(library, 100)
    assert make_map(library, model).made_of == 280


def test_asked_anew_it_is_the_same(library: Library) -> None:
    model = library.models()[0]
    first = make_map(library, model)
    again = make_map(library, model, anew=True)
    assert again.made_at > first.made_at and np.array_equal(again.points, first.points)


def test_of_many_a_sample_is_laid_out(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "MOST_LAID_OUT", 120)
    model, steps = library.models()[0], list[str]()
    made = make_map(library, model, on_step=steps.append)
    assert (made.how == LAID_OUT).sum() == 120 and (made.how == PLACED).sum() == 180
    assert steps[1:] == ["laying out 120 pictures", "placing the others, 0 so far"]
    assert compare(made, live_images(library, model)).is_current
    _, halves = library.embeddings(model.model_id, model.preprocessing_id)
    assert neighbours_kept(halves.astype(np.float32), made.points) > 0.2


def test_an_empty_library(tmp_path: Path, library: Library) -> None:
    forget(library, 300)
    with pytest.raises(LibraryError, match="rwkvsearch index PATH"):
        make_map(library, library.models()[0])


def test_without_scikit_learn(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def none(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(ModelError, match=r"pip install 'rwkvsearch\[map\]'"):
        make_map(library, library.models()[0])
    assert read_map(library, library.models()[0]) is None


def test_a_damaged_map_is_made_anew(library: Library) -> None:
    model = library.models()[0]
    made = make_map(library, model)
    (path,) = (library.path / "maps").glob("*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    again: NDArray[np.float32] = make_map(library, model).points
    assert np.array_equal(again, made.points)
