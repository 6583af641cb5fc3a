"""What the library holds, what can be filtered by, and how the server is."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Response

from rwkvsearch.indexer.facets import Count, Facets, Folder
from rwkvsearch.ui.api.metrics import MEDIA_TYPE
from rwkvsearch.ui.api.models import FacetCount, FacetValues, Health, Stats
from rwkvsearch.ui.api.replies import AsciiJson
from rwkvsearch.ui.api.searching import TheService
from rwkvsearch.ui.render import stats_as_json

router = APIRouter(tags=["server"], default_response_class=AsciiJson)


@router.get("/facets")
def facets(service: TheService) -> FacetValues:
    """What the filters can be set to, with how many pictures each value leaves."""
    return _facet_values(service.facets())


@router.get("/stats", response_model=Stats)
def stats(service: TheService) -> Response:
    """What the library holds."""
    said = stats_as_json(service.library.name, service.library.stats())
    return Response(said, headers={"Cache-Control": "no-store"}, media_type="application/json")


@router.get("/health/live")
def live() -> dict[str, str]:
    """Whether the server answers at all."""
    return {"status": "alive"}


@router.get("/health", responses={503: {"model": Health, "description": "Not ready yet."}})
def health(service: TheService, response: Response) -> Health:
    """Whether searches are answered at once: 503 until the model is in memory."""
    with service.engine() as engine:
        model, how, size = engine.encoder.model_id, engine.how, engine.size
    ready = service.warm.is_ready
    response.status_code = 200 if ready else 503
    return Health(
        status="ready" if ready else "loading",
        model=model,
        images=size,
        how=how,
        trouble=service.warm.trouble,
        reopened=service.warm.reopened,
    )


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: TheService) -> Response:
    """What the server has done and holds, for Prometheus."""
    return Response(service.metrics.as_text(service), headers={"Content-Type": MEDIA_TYPE})


def _facet_values(found: Facets) -> FacetValues:
    return FacetValues(
        images=found.images,
        folders=_counts(found.folders),
        cameras=_counts(found.cameras),
        formats=_counts(found.formats),
        orientations=_counts(found.orientations),
        tags=_counts(found.tags),
        first_taken=found.first_taken,
        last_taken=found.last_taken,
        captioned=found.captioned,
        placed=found.placed,
    )


def _counts(values: Iterable[Count | Folder]) -> list[FacetCount]:
    return [FacetCount(value=str(value), images=images) for value, images in values]
