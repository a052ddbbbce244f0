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


PAIR = {"certificate": "tls.crt", "key": "tls.key"}
CERTIFIED = PAIR | {"client_ca": "ca.pem"}
MTLS = {"demand": "mtls", "tls": CERTIFIED, "trust_domain": "corp.example"}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no identity": ({"identity": None}, "identity.jwt.issuers"),
    "no issuer": ({"identity": {"jwt": {"issuers": []}}}, "identity.jwt.issuers"),
    "no policy": ({"policy": None}, "policy.data"),
    "no data for wasm": ({"policy": {"engine": "wasm"}}, "needs `data`"),
    "no url for opa": ({"policy": {"engine": "opa"}}, "opa.url"),
    "no ledger": ({"ledger": None}, "ledger.path"),
    "no target": ({"eks": None}, "eks.account_id"),
    **{
        f"listener: {name}": ({"listeners": [listener]}, said)
        for name, listener, said in (
            ("plaintext beyond loopback", {"address": "0.0.0.0:1"}, "tls.certificate"),
            ("no port", {"address": "127.0.0.1"}, "host:port"),
            ("unknown demand", {"demand": "none"}, "listeners.0.demand"),
            ("mtls in plaintext", {"demand": "mtls", "trust_domain": "corp.example"}, "tls.client_ca"),
            ("mtls behind a mesh", {"demand": "mtls", "mesh_terminates_tls": True}, "tls.client_ca"),
            ("both without a client CA", {"demand": "both", "tls": PAIR, "trust_domain": "a"}, "client_ca"),
            ("both without a trust domain", {"demand": "both", "tls": CERTIFIED}, "trust_domain"),
            (
                "trust domain with a scheme",
                {**MTLS, "trust_domain": "spiffe://a"},
                "listeners.0.trust_domain",
            ),
            ("jwt with a client CA", {"tls": CERTIFIED}, "asks for no certificate"),
            ("jwt with a trust domain", {"trust_domain": "a"}, "asks for no certificate"),
        )
    },
    "no listener": ({"listeners": []}, "listeners"),
    "a token demanded beside mtls, and no issuer": (
        {"identity": None, "listeners": [MTLS, {"demand": "jwt"}]},
        "identity.jwt.issuers",
    ),
    "unknown setting": ({"lisen": "x"}, "lisen: unknown setting"),
    "unknown setting inside": (
        {"ledger": {"path": "x", "pth": "y"}},
        "ledger.pth: unknown setting",
    ),
    "account as a number": ({"eks": {"account_id": 111122223333, "region": "us-east-1"}}, "eks.account_id"),
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
    listener = {"address": "0.0.0.0:50051", "mesh_terminates_tls": True}
    assert load(write(tmp_path, listeners=[listener])).listeners[0].tls is None


def test_where_only_certificates_are_taken_no_issuer_is_needed(tmp_path: Path) -> None:
    """The one identity source is then the client CA, whose path is relative to the file too."""
    settings = load(write(tmp_path, identity=None, listeners=[MTLS]))
    tls = settings.listeners[0].tls
    assert tls is not None
    assert tls.client_ca == tmp_path / "ca.pem"
    assert settings.identity.jwt is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """A settings file can be moved with what it names."""
    settings = load(write(tmp_path, ledger={"path": "here.db"}))
    assert settings.ledger.path == tmp_path / "here.db"


@pytest.mark.parametrize(
    "text",
    ["[", "- a", "\x00", "", "eks: a\neks: b"],
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
