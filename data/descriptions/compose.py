"""Sentences without a language model, out of tags and measured colours, varied but repeatable.

Nothing is said that was not seen: a tag below the threshold is left out, and without any tag the
sentence speaks of colours and light only. The same picture always gives the same sentence.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rwkvsearch.data.descriptions.texts import Look, Tag
from rwkvsearch.data.descriptions.vocabulary import (
    Word,
    ancestors,
    everyday_words,
    find_word,
    joined,
    plural,
    with_article,
)

MODEL_ID = "sentences-1"
"""Changes whenever the same picture would be given another sentence."""
MOST_THINGS = 3
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
_WITH_THINGS = (
    "{things}{where}",
    "a photo of {things}{where}",
    "a picture of {things}{where}",
    "this picture shows {things}{where}",
    "one can see {things}{where}",
    "there {are} {things}{where}",
)
_COLOURS = ("; the picture is mostly {colours}", "; the main colours are {colours}")
_ONE_COLOUR = ("; the picture is mostly {colours}", "; the main colour is {colours}")
_MORE = ("; there {are} also {things}", "; {things} can be seen too", "; it also shows {things}")


@dataclass(frozen=True)
class Sentence:
    """A sentence, and the least confidence of the tags in it; None where it holds none."""

    text: str
    confidence: float | None


def sentence(tags: Sequence[Tag], look: Look, seed: str) -> Sentence:
    """What is seen, as one sentence; `tags` are those to be trusted."""
    dice = random.Random(seed)
    used = _narrowest(tags)
    things = [tag for tag in used if _word(tag).kind in ("thing", "stuff")][:MOST_THINGS]
    doing = [tag for tag in used if _word(tag).kind == "activity"][:1]
    where = [tag for tag in used if _word(tag).kind == "scene"][:1]
    place = "".join(f" {_word(tag).form}" for tag in where)
    subject = joined([_counted(tag) for tag in things])
    if doing:
        who = subject if _are_people(things) else "somebody"
        others = f" with {subject}" if things and who != subject else ""
        text = dice.choice(_WITH_THINGS[:5]).format(
            things=f"{who} {doing[0].name}{others}", where=place
        )
    elif things:
        text = dice.choice(_WITH_THINGS).format(things=subject, are=_verb(things), where=place)
    elif where:
        text = dice.choice(("a photo taken{}", "a view{}", "a picture taken{}")).format(place)
    else:
        return Sentence(_finished(_measured(look)), None)
    certain = min(tag.confidence for tag in (*things, *doing, *where))
    return Sentence(_finished(text + _coloured(look, dice)), certain)


def fused(raw: Sequence[str], tags: Sequence[Tag], look: Look, seed: str) -> Sentence:
    """One of the raw texts, completed with what it does not mention; without any, `sentence`."""
    if not raw:
        return sentence(tags, look, seed + "/again")
    dice = random.Random(seed)
    base = _as_sentence(dice.choice(list(raw)), dice)
    said = _letters(" ".join(raw))
    groups = {word.parent for word in everyday_words().values()}  # `animal` may be what is told
    new = [t for t in _narrowest(tags) if t.name not in groups and not _is_said(t, said)]
    things = [tag for tag in new if _word(tag).kind in ("thing", "stuff")][:2]
    more = ""
    if things:
        more = dice.choice(_MORE).format(
            things=joined([_counted(tag) for tag in things]), are=_verb(things)
        )
    elif not set(look.colours) & said:
        more = _coloured(look, dice)
    certain = min((tag.confidence for tag in things), default=None)
    return Sentence(_finished(base + more), certain)


def _narrowest(tags: Sequence[Tag]) -> list[Tag]:
    """The tags without the broader words of others: no `animal` where there is a `dog`."""
    words = everyday_words()
    broader = {name for tag in tags for name in ancestors(words, tag.name)}
    broader |= {_word(tag).parent for tag in tags if _word(tag).kind == "scene"}
    return [tag for tag in tags if tag.name not in broader]


def _word(tag: Tag) -> Word:
    return find_word(tag.name)


def _are_people(tags: Sequence[Tag]) -> bool:
    return bool(tags) and all("person" in (tag.name, _word(tag).parent) for tag in tags)


def _counted(tag: Tag) -> str:
    word = _word(tag)
    if word.kind == "stuff":
        return word.name
    if tag.count > 1:
        return f"{_NUMBERS.get(tag.count, 'several')} {word.form}"
    return with_article(word.name)


def _verb(tags: Sequence[Tag]) -> str:
    return "are" if tags[0].count > 1 and _word(tags[0]).kind == "thing" else "is"


def _coloured(look: Look, dice: random.Random) -> str:
    if not look.colours or dice.random() < 0.5:
        return ""
    choices = _COLOURS if len(look.colours) > 1 else _ONE_COLOUR
    return dice.choice(choices).format(colours=joined(look.colours))


def _measured(look: Look) -> str:
    """What was measured, and only that."""
    light = f"{look.light} " if look.light else ""
    return f"a {light}picture" + (
        f", mostly {joined(look.colours)}" if look.colours else " of many colours"
    )


def _as_sentence(text: str, dice: random.Random) -> str:
    """A raw text without its full stop; a label such as `soda bottle, pop bottle` as a phrase."""
    text = text.rstrip(" .;,")
    if len(text.split()) > 4 and "," not in text or len(text.split()) > 8:
        return text
    name = dice.choice([part.strip() for part in text.split(",") if part.strip()] or [text])
    if name.split()[0].lower() in ("a", "an", "the") or " " in name and not name.islower():
        return name
    word = everyday_words().get(name.lower())
    many = name.endswith("s") and not name.endswith(("ss", "us", "is"))
    label = name if many or (word and word.kind == "stuff") else with_article(name)
    return dice.choice(("a photo of {}", "a picture of {}", "{}")).format(label)


def _letters(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def _is_said(tag: Tag, said: set[str]) -> bool:
    """Whether a text has the last word of the tag, or of a kind of it, in any number."""
    words: Mapping[str, Word] = everyday_words()
    names = [tag.name, *(name for name in words if tag.name in ancestors(words, name))]
    forms = {form.split()[-1] for name in names for form in (name, plural(name), _many(name))}
    return bool(forms & said)


def _many(name: str) -> str:
    """The plural of a known thing, else the name itself."""
    word = find_word(name)
    return word.form if word.kind == "thing" else name


def _finished(text: str) -> str:
    return text[0].upper() + text[1:] + "."
