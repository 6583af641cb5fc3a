"""CLIP's byte pair encoding, exact, with a vocabulary that can be cut to its first merges.

Ids: 0-255 single bytes, 256-511 single bytes that end a word, then one per merge, then the start
mark and the end mark. Source: CLIP (arXiv 2103.00020) and its published vocabulary, see
`vocabulary/LICENSE`.
"""

import html
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files

import ftfy
import numpy as np
import regex
from numpy.typing import NDArray

from rwkvsearch.data.errors import ModelError

MERGES = 48894
"""Merges in the full vocabulary of 49,408 entries."""
BYTE_SYMBOLS = 512
START_MARK, END_MARK = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"

_WORDS = regex.compile(
    rf"{START_MARK}|{END_MARK}"
    r"|'s|'t|'re|'ve|'m|'ll|'d"
    r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class Tokenizer:
    """Text to token ids, padded with 0 or cut to a fixed number of tokens."""

    def __init__(self, vocabulary: int = BYTE_SYMBOLS + MERGES + 2, context: int = 77) -> None:
        """Keep the first `vocabulary - 514` merges; pad or cut to `context` tokens."""
        merges = vocabulary - BYTE_SYMBOLS - 2
        if not 0 <= merges <= MERGES:
            raise ModelError(
                f"vocabulary of {vocabulary}: expected 514 to {BYTE_SYMBOLS + MERGES + 2}"
            )
        if context < 2:
            raise ModelError(f"context of {context} tokens: a text needs at least 2")
        pairs = _read_merges()[:merges]
        letters = _byte_letters()
        symbols = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in pairs)]
        self.context = context
        self.vocabulary = vocabulary
        self.start, self.end = vocabulary - 2, vocabulary - 1
        self._ids = {symbol: index for index, symbol in enumerate(symbols)}
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._letters = dict(zip(_byte_order(), letters, strict=True))
        self._encode_word = lru_cache(maxsize=1 << 16)(self._merge_word)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids `[len(texts), context]`; a longer text keeps its head and an end mark."""
        out = np.zeros((len(texts), self.context), np.int64)
        for row, text in zip(out, texts, strict=True):
            ids = [self.start, *self.encode(text), self.end][: self.context]
            row[: len(ids)] = ids
            if len(ids) == self.context:
                row[-1] = self.end
        return out

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without marks or padding."""
        ids: list[int] = []
        for word in _WORDS.findall(clean(text)):
            ids.extend(self._encode_word(word))
        return ids

    def _merge_word(self, word: str) -> tuple[int, ...]:
        if word in (START_MARK, END_MARK):
            return (self.start if word == START_MARK else self.end,)
        parts = [self._letters[byte] for byte in word.encode("utf-8")]
        parts[-1] += WORD_END
        while len(parts) > 1:
            pairs = list(zip(parts, parts[1:], strict=False))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            parts = _join(parts, best)
        return tuple(self._ids[part] for part in parts)


def clean(text: str) -> str:
    """Mend encodings, resolve HTML entities twice, collapse white space, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    collapsed: str = regex.sub(r"\s+", " ", text)
    return collapsed.strip().lower()


def _join(parts: Iterable[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of `pair`, from the left."""
    out: list[str] = []
    joined = False  # the last element of `out` is a fresh join and may not join again
    for part in parts:
        if out and not joined and (out[-1], part) == pair:
            out[-1] += part
            joined = True
        else:
            out.append(part)
            joined = False
    return out


def _byte_order() -> list[int]:
    """Return the 256 bytes in vocabulary order: those with a printable Latin-1 letter first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printable + [byte for byte in range(256) if byte not in printable]


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte, in vocabulary order; none is white space."""
    order = _byte_order()
    first_other = 188  # bytes without a printable letter are numbered from U+0100
    return [
        chr(b) if i < first_other else chr(0x100 + i - first_other) for i, b in enumerate(order)
    ]


@lru_cache(maxsize=1)
def _read_merges() -> list[tuple[str, str]]:
    text = (files("rwkvsearch.data") / "vocabulary" / "clip_bpe_merges.txt").read_text("utf-8")
    return [(a, b) for a, b in (line.split(" ") for line in text.splitlines())]
