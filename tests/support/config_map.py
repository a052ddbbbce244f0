"""A folder as Kubernetes mounts a ConfigMap."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def mount_config_map(folder: Path, state: str, files: Mapping[str, str]) -> None:
    """Put files into a folder; all of them change at once with a new ``state``."""
    hidden = folder / f"..{state}"
    hidden.mkdir()
    for name, text in files.items():
        (hidden / name).write_text(text)
    (folder / "..data_tmp").symlink_to(hidden.name)
    (folder / "..data_tmp").replace(folder / "..data")
    for name in files:
        if not (link := folder / name).is_symlink():
            link.symlink_to(f"..data/{name}")
