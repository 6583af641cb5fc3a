"""Caption, headline and keywords of an IPTC block. Source: IPTC-NAA IIM 4.2, record 2."""

from __future__ import annotations

from rwkvsearch.data.texts import clean, join_keywords

_CAPTION, _HEADLINE, _KEYWORD = 120, 105, 25
_MAX_FIELDS = 4096


def read_iptc(block: bytes) -> list[tuple[str, str]]:
    """The texts of an IPTC block as (source, text); it is read up to its first damage."""
    captions: list[tuple[str, str]] = []
    keywords: list[bytes] = []
    at = max(block.find(b"\x1c\x02"), 0)
    for _ in range(_MAX_FIELDS):
        head = block[at : at + 5]
        if len(head) < 5 or head[0] != 0x1C:
            break
        size = int.from_bytes(head[3:5], "big")
        value = block[at + 5 : at + 5 + size]
        # A size with its high bit set is an extended field, too long for any text.
        if size & 0x8000 or len(value) < size:
            break
        at += 5 + size
        if head[1] != 2:
            continue
        if head[2] in (_CAPTION, _HEADLINE):
            captions.append(("iptc", clean(value)))
        elif head[2] == _KEYWORD:
            keywords.append(value)
    texts = [*captions, ("keywords", join_keywords(keywords))]
    return [(source, text) for source, text in texts if text]
