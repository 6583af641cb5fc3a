"""Search a library: the library twin of `rwkvsearch query`."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import DEFAULT_MODEL, EXACT, Precision, known_models


@dataclass(frozen=True)
class Hit:
    """One result: higher `score` (cosine, -1 to 1) is better."""

    rank: int
    """From 1."""
    image_id: int
    paths: tuple[Path, ...]
    """Every file with this content, at least one."""
    score: float

    @property
    def path(self) -> Path:
        """The first file with this content."""
        return self.paths[0]


class SearchEngine:
    """One library, one model. Close it, or use it in a `with` statement. Safe among threads.

    The images are those that were in the library when it was opened.
    """

    def __init__(self, library: Library, encoder: Encoder) -> None:
        """Use `SearchEngine.open`, or hand in an open library and the encoder it was made with."""
        self.library = library
        self.encoder = encoder
        self._index = SearchIndex.open(library, encoder.model_id, encoder.preprocessing_id)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        model: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Self:
        """Open the library in the folder `path`; None takes the model or precision that made it.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        library = Library.open(path)
        try:
            name, precision = choose_model(library, model, precision)
            return cls(library, Encoder.load(name, device=device, precision=precision))
        except BaseException:
            library.close()
            raise

    def close(self) -> None:
        """Close the library."""
        self.library.close()

    def __enter__(self) -> Self:
        """Return the engine."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Close the library."""
        self.close()

    def query(self, text: str, k: int = 10) -> list[Hit]:
        """Return the `k` images that fit `text` best, fewer if the library has fewer."""
        if not text.strip():
            raise QueryError("the query is empty: describe what the picture shows")
        return self.search(self.encoder.encode_texts([text])[0], k)

    def query_image(self, image: Image.Image | Path, k: int = 10) -> list[Hit]:
        """Return the `k` images most like `image`, a file or an RGB image."""
        if isinstance(image, Path):
            image = read_image(image, min_side=self.encoder.image_size)
        return self.search(self.encoder.encode_images([image])[0], k)

    def search(self, embedding: NDArray[np.float32], k: int = 10) -> list[Hit]:
        """Return the `k` images nearest to an embedding `[D]`; equal scores by image id."""
        if k < 1:
            raise QueryError(f"k must be at least 1, not {k}")
        scores, ids = self._index.search(embedding[None], k)
        paths = self.library.paths_of(ids[0].tolist())
        return [
            Hit(rank, image_id, tuple(paths[image_id]), score)
            for rank, (image_id, score) in enumerate(
                zip(ids[0].tolist(), scores[0].tolist(), strict=True), start=1
            )
            if paths.get(image_id)
        ]


def choose_model(
    library: Library | None, model: str | None = None, precision: Precision | None = None
) -> tuple[str, Precision]:
    """Return the name and precision to use: what is asked for, completed from the library.

    An open name is that of the library's only known model, else the default; an open precision is
    the most exact one that this model has in the library, else fp32.
    """
    ids = [info.model_id for info in library.models()] if library else []
    names = [name for name in known_models() if any(i.startswith(f"{name}-") for i in ids)]
    name = model or (names[0] if len(names) == 1 else DEFAULT_MODEL)
    own = [i for i in ids if i.startswith(f"{name}-")]
    precisions = [p for p in get_args(Precision) if any(i.endswith(f"-{p}") for i in own)]
    return name, precision or (precisions[0] if precisions else EXACT)
