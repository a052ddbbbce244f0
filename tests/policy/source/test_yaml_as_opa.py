"""YAML that the gateway reads is read by a real OPA with the same values."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

from eksgateway.strict_yaml import Unquoted, read_yaml

_DOCUMENTS = 1500
_KEYS = ["a", "b", "c", "d e", "f.g", "1x"]
_TEXTS = ["a", "b c", "prod-*", "corp:x", "10-prod", "1.2.3", "y", "06:00", "é", "a/b", "a#b", "x" * 90]
_ODD = [  # some are no texts, and some no YAML in some places
    *("n", "yes", "012", "0o7", "1e3", "1_0", "+.5", "~", "null", "2026-12-20", "22:00", "=", "<<", "-a"),
    *(
        "a: b",
        "a #b",
        ".inf",
        "0x1G",
        "-",
        "/**",
        "a\\b",
        "'",
        '"',
        "%a",
        "@a",
        "!a",
        "*",
        "a,b",
        "[",
        "\U0001f600",
    ),
]


class Writer:
    """Writes documents with anchors, aliases and merge keys. Some are no YAML."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._anchors = 0

    def document(self) -> str:
        """The first keys hold mappings with an anchor, and later ones merge them."""
        values = [f"&m{number} {self._mapping(1)}" for number in range(2)]
        values += [self._merging() if self._random.random() < 0.4 else self._value(0) for _ in range(3)]
        lines = "\n".join(f"k{number}: {value}" for number, value in enumerate(values))
        return self._random.choice(["{}", "---\n{}\n...\n", "\ufeff{}", "# x\n{}"]).replace("{}", lines, 1)

    def _value(self, depth: int) -> str:
        choose = self._random.random()
        if choose < 0.1:
            return f"*x{self._random.randint(0, self._anchors)} "
        anchor = ""
        if choose > 0.8:
            self._anchors += self._random.choice([0, 1])  # 0: set again
            anchor = f"&x{self._anchors} "
        kind = self._random.randrange(8 if depth < 3 else 4)
        if kind == 4:
            return f"{anchor}[{', '.join(self._value(depth + 1) for _ in range(self._random.randint(0, 3)))}]"
        return anchor + (self._mapping(depth) if kind > 4 else self._scalar(depth))

    def _mapping(self, depth: int, *first: str) -> str:
        keys = self._random.sample(_KEYS, self._random.randint(0, 4))
        pairs = [*first, *(f"{key}: {self._value(depth + 1)}" for key in keys)]
        self._random.shuffle(pairs)
        return f"{{{', '.join(pairs)}}}"

    def _merging(self) -> str:
        merged = self._random.choice(["*m0", "*m1", "[*m0, *m1]", "[*m1, *m0]", self._mapping(2), "*x1"])
        return self._mapping(1, f"<<: {merged}")

    def _scalar(self, depth: int) -> str:
        text = self._random.choice(_ODD if self._random.random() < 0.1 else _TEXTS)
        match self._random.randrange(10):
            case 0:
                return json.dumps(text, ensure_ascii=False)
            case 1:
                return "'" + text.replace("'", "''") + "'"
            case 2:
                return f"!!str {text}"
            case 3 if depth == 0:
                style = self._random.choice("|>") + self._random.choice(["", "-", "+"])
                return f"{style}\n   {text}\n    {text}\n\n   {text}"
        return text


def test_documents_are_read_as_opa_reads_them(tmp_path: Path) -> None:
    """In one evaluation: each document is the data of a folder of its own."""
    expected: dict[str, Any] = {}
    merging = 0
    for seed in range(_DOCUMENTS):
        text = Writer(seed).document()
        try:
            value = read_yaml(text)
        except ValueError:
            continue
        if not _has_unquoted(value):
            folder = tmp_path / f"d{seed}"
            folder.mkdir()
            (folder / "data.yaml").write_text(text)
            expected[folder.name] = value
            merging += "<<: " in text
    command = ["opa", "eval", "--format", "raw", "--bundle", str(tmp_path), "data"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
    assert len(expected) > _DOCUMENTS / 5
    assert merging > _DOCUMENTS / 10


def _has_unquoted(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_unquoted, value.values()))
        case list():
            return any(map(_has_unquoted, value))
    return isinstance(value, Unquoted)
