import os
from pathlib import Path

import pytest

from rwkvsearch.data.files import open_file


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(OSError):
            open_file(path)
    (tmp_path / "file").write_bytes(b"bytes")
    with open_file(tmp_path / "file") as stream:
        assert (stream.read(), str(stream.name)) == (b"bytes", str(tmp_path / "file"))
