"""The settings file: what serves, and what is refused with the words that mend it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.settings import Settings, SettingsError, load

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"


def write(path: Path, **changes: Any) -> Path:
    """The example with some settings changed; None removes one."""
    raw = yaml.safe_load(EXAMPLE.read_text()) | changes
    file = path / "config.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in raw.items() if value is not None}))
    return file


def test_the_example_loads() -> None:
    """What operators copy is right."""
    settings = load(EXAMPLE)
    assert settings.eks.home.account_id == "111122223333"


def test_the_example_names_every_setting() -> None:
    """An operator finds them all in one place."""
    text = "\n".join(
        re.sub(r"^(\s*)# ?(\s*[a-z_]+:)", r"\1\2", line) for line in EXAMPLE.read_text().split("\n")
    )
    shown = set(re.findall(r"^\s*-?\s*([a-z_]+):", text, re.MULTILINE))

    def names(model: Any) -> set[str]:
        found: set[str] = set()
        for name, field in model.model_fields.items():
            found.add(name)
            for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(inner, "model_fields"):
                    found |= names(inner)
        return found

    assert names(Settings) - {"issuers"} <= shown


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no identity": ({"identity": None}, "identity.jwt.issuers"),
    "no issuer": ({"identity": {"jwt": {"issuers": []}}}, "identity.jwt.issuers"),
    "no policy": ({"policy": None}, "policy.data"),
    "no data for wasm": ({"policy": {"engine": "wasm"}}, "needs `data`"),
    "no url for opa": ({"policy": {"engine": "opa"}}, "opa.url"),
    "no ledger": ({"ledger": None}, "ledger.path"),
    "no target": ({"eks": None}, "eks.account_id"),
    "plaintext beyond loopback": ({"tls": None}, "tls.certificate"),
    "unknown setting": ({"lisen": "x"}, "lisen: unknown setting"),
    "unknown setting inside": (
        {"ledger": {"path": "x", "pth": "y"}},
        "ledger.pth: unknown setting",
    ),
    "account as a number": ({"eks": {"account_id": 111122223333, "region": "us-east-1"}}, "eks.account_id"),
    "no port": ({"listen": "127.0.0.1"}, "host:port"),
    "symmetric algorithm": (
        {
            "identity": {
                "jwt": {
                    "issuers": [
                        {"name": "a", "issuer": "i", "audience": "a", "jwks": "k", "algorithms": ["HS256"]}
                    ]
                }
            }
        },
        "algorithms",
    ),
    **{
        f"keys from {jwks}": (
            {"identity": {"jwt": {"issuers": [{"name": "a", "issuer": "i", "audience": "a", "jwks": jwks}]}}},
            said,
        )
        for jwks, said in (
            ("http://idp.corp.example/keys", "use an https URL"),
            ("http://localhost:80@idp.corp.example/keys", "without a user"),
            ("https://user@idp.corp.example/keys", "without a user"),
            ("https:///keys", "with a host"),
        )
    },
    "two issuers of one name": (
        {
            "identity": {
                "jwt": {
                    "issuers": [
                        {"name": "a", "issuer": "i", "audience": "a", "jwks": "k"},
                        {"name": "a", "issuer": "j", "audience": "a", "jwks": "k"},
                    ]
                }
            }
        },
        "same name",
    ),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_serve_is_refused_with_how_to_set_it(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """Nothing starts on settings that are incomplete, unsafe or misspelt."""
    with pytest.raises(SettingsError, match=re.escape(said)):
        load(write(tmp_path, **changes))


def test_plaintext_is_taken_where_the_file_says_that_a_mesh_terminates_tls(tmp_path: Path) -> None:
    """In so many words, or not at all."""
    assert load(write(tmp_path, tls=None, mesh_terminates_tls=True)).mesh_terminates_tls


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A settings file can be moved with what it names."""
    settings = load(write(tmp_path, ledger={"path": "here.db"}))
    assert settings.ledger.path == tmp_path / "here.db"


@pytest.mark.parametrize(
    "text",
    ["[", "- a", "\x00", "", "listen: a\nlisten: b"],
    ids=["broken", "list", "binary", "empty", "key twice"],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """And one that is missing too."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="config"):
        load(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "missing.yaml")
