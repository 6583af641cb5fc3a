"""What the API answers, as types that its description is made from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

OsText = Annotated[str, SkipValidation]
"""A path: a name of any bytes, those that are no UTF-8 as surrogates, as on the command line."""


class Answered(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(protected_namespaces=())


class Timings(Answered):
    """Milliseconds."""

    encode: float = Field(description="Of the model, or of waiting for it.")
    search: float = Field(description="Of finding and ranking.")
    rest: float = Field(description="Of everything else that the server did.")
    total: float


class ImageHit(Answered):
    """One picture that was found; fields as `rwkvsearch query --json` prints them, and three."""

    rank: int = Field(description="From 1.")
    score: float = Field(description="Cosine with the query, -1 to 1; higher is better.")
    confidence: float = Field(description="How unusual the score is for this library, 0 to 1.")
    path: OsText = Field(description="The first file with this content, on the server.")
    paths: list[OsText] = Field(description="Every file with this content.")
    image_id: int
    terms: list[float | None] = Field(description="Cosine with each term of the query.")
    thumb: str = Field(description="Where a small picture of it is, as WebP.")
    width: int = Field(description="Of the picture, upright, in pixels.")
    height: int


class Found(Answered):
    """The answer to a search."""

    query: str | None = Field(description="The words as they were given.")
    terms: OsText = Field(description="The query as it was understood.")
    model: str
    how: str = Field(description="`exact`, or the kind of the index and what it finds of that.")
    message: str | None = Field(
        description="What has to be said about the hits, such as that none is a confident match."
    )
    offset: int
    timings: Timings
    hits: list[ImageHit]


class TextHit(Answered):
    """One text that fits."""

    rank: int
    score: float
    text: str
    image_ids: list[int] = Field(description="The images of the library that it belongs to.")


class FoundTexts(Answered):
    """The texts that fit a picture best."""

    model: str
    hits: list[TextHit]


class LabelFound(Answered):
    """A label that fits, from 0 (no more than by chance) to 1 (certain)."""

    label: str
    confidence: float


class Classified(Answered):
    """The labels that fit a picture best, the surest first."""

    model: str
    labels: list[LabelFound]


class Uploaded(Answered):
    """A picture that is kept for searches, until others take its place."""

    upload: str = Field(description="What it is asked for by: the SHA-256 of its bytes.")
    width: int = Field(description="Upright, in pixels.")
    height: int
    format: str


class Reason(Answered):
    """Why a picture has its score, in words."""

    image_id: int
    score: float
    confidence: float
    words: str = Field(description="The score, and what each term of the query has to do with it.")
    picture: str = Field(description="Where the heat map is, as WebP.")


class ImageFile(Answered):
    """A file that is there."""

    path: OsText
    bytes: int
    modified: str | None = Field(description="ISO 8601, UTC.")


class ImageText(Answered):
    """A text that belongs to a picture."""

    text: str
    source: str


class ImageDetails(Answered):
    """Everything that is known of a picture."""

    image_id: int
    content_hash: str = Field(description="SHA-256 of the file.")
    thumb: str
    width: int = Field(description="Upright, in pixels.")
    height: int
    format: str
    frames: int
    taken_at: str | None = Field(description="Local time, ISO 8601.")
    camera: str | None
    lens: str | None
    latitude: float | None = Field(description="Degrees.")
    longitude: float | None
    files: list[ImageFile]
    captions: list[ImageText]
    tags: list[LabelFound]
    models: list[str] = Field(description="Those that have embedded it.")


class AlbumInfo(Answered):
    """A saved query, and what was said of its hits."""

    name: str
    terms: OsText = Field(description="What it asks, on one line.")
    query: Annotated[dict[str, Any] | str, SkipValidation] = Field(
        description="The same as it is kept; a text if it is damaged."
    )
    liked: list[int] = Field(description="Image ids.")
    disliked: list[int]
    created_at: str = Field(description="ISO 8601, UTC.")


class Albums(Answered):
    """All albums by name."""

    albums: list[AlbumInfo]


class AlbumFound(Found):
    """The hits of an album, turned towards what was liked and away from the rest."""

    album: str
    liked: list[int]
    disliked: list[int]


class FacetCount(Answered):
    """A value of a filter, and how many images it leaves."""

    value: OsText
    images: int


class FacetValues(Answered):
    """What the filters can be set to; the most frequent first."""

    images: int
    folders: list[FacetCount]
    cameras: list[FacetCount]
    formats: list[FacetCount]
    orientations: list[FacetCount]
    tags: list[FacetCount]
    first_taken: str | None
    last_taken: str | None
    captioned: int = Field(description="Images with a text of their own.")
    placed: int = Field(description="Images that say where they were taken.")


class ModelCount(Answered):
    """A model of the library."""

    id: str
    dim: int
    embeddings: int


class AnnIndex(Answered):
    """A nearest-neighbour index of the library."""

    model: str
    kind: str
    rows: int
    bytes: int
    ann_recall: float | None


class Stats(Answered):
    """What the library holds, as `rwkvsearch stats --json` prints it."""

    library: OsText
    images: int
    files: int
    gone: int
    captions: int
    tags: int
    errors: int
    errors_by_reason: dict[str, int]
    roots: list[OsText]
    models: list[ModelCount]
    anns: list[AnnIndex]
    bytes: int
    synced_at: str | None


class Health(Answered):
    """Whether searches are answered at once."""

    status: str = Field(description="`ready`; `loading`: the model is not yet in memory.")
    model: str
    images: int
    how: str
    trouble: str | None = Field(
        description="Why the library cannot be opened as it is now; searches go on in what it was."
    )
    reopened: int = Field(description="How often the library was opened anew, since it changed.")
