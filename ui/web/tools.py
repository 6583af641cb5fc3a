"""What assistants can call by the Model Context Protocol, at `/gradio_api/mcp/`."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Any

import gradio as gr

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.details import details_of
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.answers import answer
from rwkvsearch.ui.web.asked import Asked
from rwkvsearch.ui.words import printable

_MOST = 48


def are_there() -> bool:
    """Whether what speaks the protocol is installed: `pip install 'rwkvsearch[mcp]'`."""
    return find_spec("mcp") is not None


def add(service: Service) -> None:
    """Put the tools into the pages within whose `with` statement this is called."""

    def search_pictures(words: str, k: int = 10, after: str = "", before: str = "") -> str:
        """Find the pictures of the user's library that show what the words describe.

        Args:
            words: what the picture shows, such as "a dog on a beach"; "+ " and "- " join terms.
            k: number of pictures, up to 48.
            after: only taken in or after this time, such as 2019 or 2019-06-30; may be empty.
            before: only taken in or before this time; may be empty.
        """
        found = answer(service, Asked(q=words, after=after, before=before))
        return _told(found, k)

    def similar_pictures(image_id: int, k: int = 10) -> str:
        """Find the pictures of the user's library that look most like one of them.

        Args:
            image_id: the id of a picture, as other tools give it.
            k: number of pictures, up to 48.
        """
        return _told(answer(service, Asked(like=image_id)), k)

    def about_picture(image_id: int) -> str:
        """Tell when, where and how a picture was taken, its files, captions and tags.

        Args:
            image_id: the id of a picture, as other tools give it.
        """
        try:
            found = details_of(service.library, [image_id]).get(image_id)
        except RwkvSearchError as error:
            return json.dumps({"error": str(error)})
        if found is None:
            return json.dumps({"error": f"there is no image {image_id}"})
        told = {
            "image_id": image_id,
            "files": [printable(file.path) for file in found.files],
            "width": found.width,
            "height": found.height,
            "taken_at": found.taken_at,
            "camera": found.camera,
            "latitude": found.latitude,
            "longitude": found.longitude,
            "captions": [caption.text for caption in found.captions],
            "tags": {tag.label: tag.confidence for tag in found.tags},
        }
        return json.dumps(told)

    for tool in (search_pictures, similar_pictures, about_picture):
        gr.api(tool, api_name=tool.__name__, queue=False)


def _told(found: dict[str, Any], k: int) -> str:
    if found["error"]:
        return json.dumps({"error": found["error"]})
    names = ("id", "path", "score", "confidence")
    hits = [{name: hit[name] for name in names} for hit in found["hits"][: max(1, min(k, _MOST))]]
    return json.dumps({"hits": hits, "message": found["message"]})
