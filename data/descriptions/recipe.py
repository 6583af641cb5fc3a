"""Who describes, and on what terms."""

from __future__ import annotations

from dataclasses import dataclass

from rwkvsearch.data.descriptions.prompts import INSTRUCTION
from rwkvsearch.data.descriptions.protocols import Captioner, LanguageModel, Tagger

PICTURES_AT_ONCE = 32
"""Decoded pictures in memory; each may be some megabytes."""
MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Recipe:
    """Without a tagger there are no tags; without the others, sentences are composed offline."""

    tagger: Tagger | None = None
    captioner: Captioner | None = None
    language_model: LanguageModel | None = None
    min_confidence: float = MIN_CONFIDENCE
    """Tags below are neither used nor written."""
    instruction: str = INSTRUCTION
    asked_at_once: int = PICTURES_AT_ONCE
    """Questions handed to the language model together, at least `PICTURES_AT_ONCE`."""
