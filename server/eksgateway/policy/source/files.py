"""Reads the files of the policy data. Blocks: on the event loop, use it in ``blocking.RepeatedRead``."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from eksgateway.file_reader import FileUnreadable, read_file
from eksgateway.policy.source.faults import PolicyDataError

MAX_BYTES: Final = 16 << 20  # of all files together
MAX_FILES: Final = 1000
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_TRIES: Final = 3

_Files: TypeAlias = dict[str, tuple[int, ...]]  # by name: the mode, and what changes with a file


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: Path
    raw: bytes


def read_sources(path: Path) -> tuple[SourceFile, ...]:
    """A file, or the YAML and JSON files directly in a folder, in order of their names.

    Names that begin with a dot are left out; the case of suffixes does not matter. All files are of one state
    of the folder. Raises PolicyDataError, also if there are such files in folders below.
    """
    try:
        if path.is_dir():
            return _read_folder(path)
        return (SourceFile(path, _read(path, "")),)
    except FileUnreadable as exc:
        raise PolicyDataError(str(path), [str(exc)]) from exc
    except OSError as exc:
        raise PolicyDataError(str(path), [f"cannot be read: {exc.strerror}"]) from exc


def _read_folder(folder: Path) -> tuple[SourceFile, ...]:
    """A ConfigMap is mounted as links to files in a hidden folder, and all links are changed at once."""
    for _ in range(_TRIES):
        before = _list_files(folder)
        try:
            sources = _read_files(folder, before)
        except FileUnreadable:
            if _list_files(folder) == before:
                raise
        else:
            if _list_files(folder) == before:
                return sources
    raise FileUnreadable("changes each time it is read; replace its files at once")


def _list_files(folder: Path) -> _Files:
    listed = [name for name in os.listdir(folder) if name[0] != "."]  # noqa: PTH208
    names = sorted(name for name in listed if _has_data(name))
    for name in sorted(set(listed).difference(names)):
        if any(_has_data(file) for _, _, files in os.walk(folder / name) for file in files):
            raise FileUnreadable(f"{show_name(name)}: its files are not read: move them up into the folder")
    if not names:
        raise FileUnreadable("has no file named *.yaml, *.yml or *.json")
    if len(names) > MAX_FILES:
        raise FileUnreadable(f"has {len(names):,} files, and may have {MAX_FILES:,}")
    return {name: _stat(folder / name) for name in names}


def _has_data(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _stat(path: Path) -> tuple[int, ...]:
    try:
        state = path.stat()
    except OSError:  # a broken link; reading it reports the error
        return ()
    return (state.st_mode, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


def _read_files(folder: Path, files: _Files) -> tuple[SourceFile, ...]:
    sources, size = [], 0
    for name, state in files.items():
        source_name = show_name(name)
        if state and not stat.S_ISREG(state[0]):  # reading a pipe would not end
            raise FileUnreadable(f"{source_name}: is not a regular file")
        sources.append(SourceFile(folder / name, _read(folder / name, f"{source_name}: ")))
        size += len(sources[-1].raw)
        if size > MAX_BYTES:
            raise FileUnreadable(f"has files of more than {MAX_BYTES} bytes together")
    return tuple(sources)


def _read(path: Path, prefix: str) -> bytes:
    try:
        return read_file(path, MAX_BYTES)
    except FileUnreadable as exc:
        raise FileUnreadable(f"{prefix}cannot be read: {exc}") from exc


def show_name(name: str) -> str:
    """A file's name on one line."""
    return name if name.isprintable() else repr(name)
