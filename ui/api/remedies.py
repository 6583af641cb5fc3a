"""What to do about a file that could not be used, by the reason that the library keeps."""

from __future__ import annotations

_BY_BEGINNING = (
    ("empty file", "It holds no bytes: fetch it again from where it came from, or delete it."),
    (
        "truncated file",
        "It ends too early, as after a copy that broke off: fetch it again from where it came "
        "from. It is looked at again once it has changed.",
    ),
    (
        "not an image",
        "Its name says picture, its content something else: rename it, or leave it out with a "
        "line in .rwkvsearchignore.",
    ),
    ("permission denied", "Let the user who syncs read it (chmod u+r FILE), then sync."),
    ("file not found", "It went away during the sync: sync again."),
    ("it changed while it was read", "It was being written: sync again."),
    ("needs pip install", "Install what it names where rwkvsearch runs, then sync."),
    (
        "unreadable: not enough memory",
        "Close other programs or make the picture smaller, then sync.",
    ),
    (
        "unreadable: input/output error",
        "The disk or the network drive gave an error: check it, then sync.",
    ),
    ("cannot be preprocessed", "Its shape is one that the model cannot use: cut or resize it."),
    ("unreadable", "It is damaged: restore it from a backup, or save it anew with an editor."),
)


def remedy(reason: str) -> str:
    """What a person can do about files that could not be used for this reason."""
    if reason.startswith("too large"):
        for option in ("--max-megapixels", "--max-megabytes"):
            if option in reason:
                return f"Make it smaller, or run `rwkvsearch index {option} N` with a higher limit."
        return "Make it smaller."
    for beginning, text in _BY_BEGINNING:
        if reason.startswith(beginning):
            return text
    return "It is looked at again once it has changed, at the next sync."
