"""Reading a file of a bounded size."""

from __future__ import annotations

from pathlib import Path

import pytest

from eksgateway.file_reader import FileUnreadable, read_file


def test_read_file_is_bounded_and_reports_the_cause(tmp_path: Path) -> None:
    """The error has the cause and no content of the file."""
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    assert read_file(file, 10) == b"0123456789"
    for path, most, why in (
        (file, 9, "is larger than 9 bytes"),
        (tmp_path, 9, "Is a directory"),
        (tmp_path / "x", 9, "No such file"),
    ):
        with pytest.raises(FileUnreadable, match=why):
            read_file(path, most)
