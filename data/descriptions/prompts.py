"""What a language model is told and asked, and what is kept of its answer.

The task is that of RWKV-CLIP: fuse the raw text, the synthetic caption and the detection tags into
one description; the tags hold invention down. Source: arXiv 2406.06973, section 3.1. The wording
is ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.texts import Tag, digest
from rwkvsearch.data.descriptions.vocabulary import Word, ancestors, everyday_words, plural

LONGEST_ANSWER = 600
"""Characters; the text towers read far less."""
INSTRUCTION = """\
You write one-sentence descriptions of photographs that you cannot see. You are given up to three \
sources about one photograph:
- RAW: the text it was published with. It may name people, places or things precisely, and it may \
also be beside the point or hold advertising.
- CAPTION: what a captioning program saw. It is plain, usually right about the main subject, and \
misses detail.
- TAGS: what a detector found, with its confidence.
Merge them into one natural English sentence of 8 to 35 words that says what is visible: subjects, \
their number and looks, what they do, and where.
Keep every detail of RAW that a viewer could see; drop names of files, dates, links, hashtags, \
opinions and advertising.
Where the sources disagree, believe what at least two of them support. Mention an object only if \
RAW, CAPTION or TAGS name it. Guess nothing: no feelings, causes or objects of your own.
Answer with the sentence alone, without quotation marks or remarks."""


@dataclass(frozen=True)
class Question:
    """What the model is asked about one picture."""

    raw: tuple[str, ...]
    synthetic: str
    tags: tuple[Tag, ...]

    def as_text(self) -> str:
        """The sources, one a line; those that are missing are not mentioned."""
        lines = [f"RAW: {text}" for text in self.raw]
        lines += [f"CAPTION: {self.synthetic}"] if self.synthetic else []
        lines += [f"TAGS: {', '.join(map(_tag, self.tags))}"] if self.tags else []
        return "\n".join(lines)


def prompt_id(instruction: str) -> str:
    """The name of an instruction, kept with every text it led to."""
    return digest(instruction)[:16]


def cleaned(answer: str) -> str | Failed:
    """The sentence of an answer: without reasoning, labels, quotation marks and line breaks."""
    answer = re.sub(r"<think>.*?</think>", " ", answer, flags=re.DOTALL)
    text = " ".join(answer.split()).strip()
    text = re.sub(r"^(answer|description|caption|sentence)\s*:\s*", "", text, flags=re.IGNORECASE)
    text = text.strip("\"'`\u201c\u201d* ")
    if "<think>" in text or len(text) > LONGEST_ANSWER:
        return Failed("the answer is no single sentence")
    return text or Failed("the answer is empty")


def grounding(answer: str, question: Question) -> float | None:
    """The share of the everyday things in an answer that a source names; None if it has none.

    A thing counts as named by itself in any number, by a narrower or by a broader word.
    """
    words = everyday_words()
    told = _things(question.as_text())
    known = told | {broader for name in told for broader in ancestors(words, name)}
    said = _things(answer)
    if not said:
        return None
    fair = [name for name in said if name in known or told & set(ancestors(words, name))]
    return round(len(fair) / len(said), 3)


def _things(text: str) -> set[str]:
    plain = f" {' '.join(re.findall(r'[a-z-]+', text.lower()))} "
    return {
        word.name
        for word in everyday_words().values()
        if word.kind in ("thing", "stuff") and any(f" {form} " in plain for form in _forms(word))
    }


def _forms(word: Word) -> tuple[str, str]:
    return word.name, word.form or plural(word.name)


def _tag(tag: Tag) -> str:
    number = f"{tag.count} x " if tag.count > 1 else ""
    return f"{number}{tag.name} ({tag.confidence:.2f})"
