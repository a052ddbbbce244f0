"""Reads the files of the policy data. Blocks: on the event loop, use it in ``blocking.RepeatedRead``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.policy.source.faults import PolicyDataError

MAX_BYTES: Final = 16 << 20  # of all files together
MAX_FILES: Final = 1000
_SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: Path
    raw: bytes


def read_sources(path: Path) -> tuple[SourceFile, ...]:
    """A file, or the YAML and JSON files directly in a folder, in order of their names.

    Files with a hidden name are left out. Raises PolicyDataError.
    """
    paths = _list_folder(path) if path.is_dir() else [path]
    sources, left = [], MAX_BYTES
    for each in paths:
        try:
            raw = read_file(each, MAX_BYTES)
        except FileUnreadable as exc:
            raise _unreadable(path, each, exc) from exc
        left -= len(raw)
        if left < 0:
            raise PolicyDataError(str(path), [f"has files of more than {MAX_BYTES} bytes together"])
        sources.append(SourceFile(each, raw))
    return tuple(sources)


def _list_folder(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  a name alone is needed
    except OSError as exc:
        raise PolicyDataError(str(folder), [f"cannot be read: {exc.strerror}"]) from exc
    # A mounted ConfigMap has its files in a hidden folder, and links to them beside it.
    paths = [folder / name for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]
    if not paths:
        raise PolicyDataError(str(folder), ["has no file named *.yaml, *.yml or *.json"])
    if len(paths) > MAX_FILES:
        raise PolicyDataError(str(folder), [f"has {len(paths)} files, and may have {MAX_FILES}"])
    return paths


def _unreadable(path: Path, file: Path, error: FileUnreadable) -> PolicyDataError:
    name = "" if file == path else f"{file.name}: "
    return PolicyDataError(str(path), [f"{name}cannot be read: {error}"])
