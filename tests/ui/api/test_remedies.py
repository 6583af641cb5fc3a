"""Every reason that files are given is met with something to do."""

import pytest

from rwkvsearch.ui.api.remedies import remedy


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("empty file", "fetch it again"),
        ("truncated file", "fetch it again"),
        ("not an image", ".rwkvsearchignore"),
        ("permission denied", "chmod"),
        ("file not found", "sync again"),
        ("it changed while it was read", "sync again"),
        ("needs pip install 'rwkvsearch[heic]'", "Install"),
        ("too large: 200 megapixels (limit 128, raise with --max-megapixels)", "--max-megapixels"),
        ("too large: 2048 megabytes (limit 1024, raise with --max-megabytes)", "--max-megabytes"),
        ("too large: over the decoder's own limit", "smaller"),
        ("unreadable: damaged file", "backup"),
        ("unreadable: not enough memory", "Close other programs"),
        ("unreadable: input/output error", "disk"),
        ("cannot be preprocessed: height and width must be > 0", "resize"),
        ("something new", "next sync"),
    ],
)
def test_remedy(reason: str, word: str) -> None:
    assert word in remedy(reason)
