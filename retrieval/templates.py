"""Sets of sentences for class names that ship in the package, one for each kind of pictures."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from rwkvsearch.data.errors import DataError


@dataclass(frozen=True)
class TemplateSet:
    """Sentences with `{}` for the name, the pictures they are for, and the usual figure of these.

    `metric` is `top1` or `mean_per_class`, None where no data set is meant.
    """

    name: str
    about: str
    sentences: tuple[str, ...]
    metric: str | None


@cache
def template_sets() -> dict[str, TemplateSet]:
    """Every set by its name."""
    text = (files("rwkvsearch.retrieval") / "templates.json").read_text("utf-8")
    sets: dict[str, dict[str, Any]] = json.loads(text)["sets"]
    return {
        name: TemplateSet(name, one["for"], tuple(one["sentences"]), one.get("metric"))
        for name, one in sets.items()
    }


def find_templates(name: str) -> TemplateSet:
    """The set of this name, however it is spelt: `CIFAR-10` is `cifar10`.

    Raises:
        DataError: there is none; all names are listed.
    """
    found = template_sets().get(re.sub(r"[^a-z0-9]", "", name.lower()))
    if found is None:
        known = ", ".join(template_sets())
        raise DataError(f"no set of templates is called {name!r}; there are {known}")
    return found
