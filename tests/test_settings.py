"""Settings files: valid ones, and faults, each with its correction."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.model import ACCOUNT_ID_PATTERN, REGION_PATTERN, Target
from eksgateway.settings import IssuerSettings, PostgresLocation, Settings, SettingsError, load

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config.example.yaml"


def test_policy_data_has_the_patterns_of_the_settings() -> None:
    """JSON cannot import them."""
    schema = json.loads((ROOT / "policies/schemas/data.json").read_text())
    patterns = set(re.findall(r'"pattern": "([^"]+)"', json.dumps(schema)))
    assert {f"^({ACCOUNT_ID_PATTERN}|[*])$", f"^({REGION_PATTERN}|[*])$"} <= patterns


def write(path: Path, **changes: Any) -> Path:
    """The example with changes; None removes a setting."""
    raw = yaml.safe_load(EXAMPLE.read_text()) | changes
    file = path / "config.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in raw.items() if value is not None}))
    return file


def test_the_example_loads() -> None:
    """Operators copy it."""
    settings = load(EXAMPLE)
    assert settings.eks.home.account_id == "111122223333"


def test_the_example_names_every_setting() -> None:
    """Active or commented."""
    text = "\n".join(
        re.sub(r"^(\s*)# ?(\s*[a-z_]+:)", r"\1\2", line) for line in EXAMPLE.read_text().split("\n")
    )
    shown = set(re.findall(r"^\s*-?\s*([a-z_]+):", text, re.MULTILINE))

    def names(model: Any) -> set[str]:
        found: set[str] = set()
        for name, field in model.model_fields.items():
            found.add(field.alias or name)
            for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if hasattr(inner, "model_fields"):
                    found |= names(inner)
        return found

    assert names(Settings) - {"issuers"} <= shown


def test_the_examples_commented_settings_are_the_defaults(tmp_path: Path) -> None:
    """Except for the second listener, OPA and PostgreSQL, which are examples."""
    text = re.sub(r"(?m)^  # (- address:(.*\n  #)*|url: |opa:(.*\n  #  )*).*$", "", EXAMPLE.read_text())
    file = tmp_path / "config.yaml"
    file.write_text(re.sub(r"(?m)^( *)# ( *[a-z_]+:( |$))", r"\1\2", text))
    assert "\nreflection: off" in file.read_text()
    assert "\n  poll_s: 5" in file.read_text()
    assert load(file) == load(EXAMPLE)


PAIR = {"certificate": "tls.crt", "key": "tls.key"}
CERTIFIED = PAIR | {"client_ca": "ca.pem"}
MTLS = {"demand": "mtls", "tls": CERTIFIED, "trust_domain": "corp.example"}
TARGET = {"account_id": "111122223333", "region": "us-east-1"}
ROLE = "arn:aws:iam::111122223333:role/eksgateway"


def targets(*targets: dict[str, Any]) -> dict[str, Any]:
    return {"eks": {"targets": [TARGET | each for each in targets]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no identity": ({"identity": None}, "identity.jwt.issuers"),
    "no issuer": ({"identity": {"jwt": {"issuers": []}}}, "identity.jwt.issuers"),
    "no policy": ({"policy": None}, "policy.data"),
    "no data for wasm": ({"policy": {"engine": "wasm"}}, "needs `data`"),
    "no url for opa": ({"policy": {"engine": "opa"}}, "opa.url"),
    "no ledger": ({"ledger": None}, "ledger.path"),
    "no target": ({"eks": None}, "eks.targets"),
    **{
        f"ledger: {ledger}": ({"ledger": ledger}, message)
        for ledger, message in (
            ({"queue": 9}, "set `path` to the path of an SQLite file, or `url` to postgresql://"),
            ({"path": "a", "url": "postgresql://u@localhost/db"}, "`path` and `url` are both set"),
            ({"path": "a", "listen_url": "postgresql://u@localhost/db"}, "`listen_url` is for `url`"),
            ({"path": "a", "schema": "other"}, "`schema` is for `url`"),
            ({"path": "a", "connections": 9}, "`connections` is for `url`"),
            ({"url": "postgresql://u@localhost/db", "connections": 4}, "greater than or equal to 5"),
            ({"url": "postgresql://u@localhost/db", "schema": "A-b"}, "write up to 41 lower-case letters"),
            ({"url": "mysql://u@localhost/db"}, "write it as postgresql://"),
            ({"url": "postgresql:///db"}, "with a host"),
            ({"url": "postgresql://u@localhost/d b"}, "remove the blanks"),
            *(
                ({"url": f"postgresql://{odd}@localhost/db?sslmode=require"}, "as %40, %2F, %3F or %23")
                for odd in ("u:se@cret", "u:se/cret", "u:1/secret", "u:1?secret", "u:1?secret=x", "u@e:se")
            ),
        )
    },
    **{
        f"a ledger without TLS at {where}": (
            {"ledger": {"url": f"postgresql://u:secret@{where}"}},
            "is not loopback, and the URL demands no TLS: add ?sslmode=verify-full",
        )
        for where in (
            "db.corp.example/db",
            "10.0.0.1:5432/db",
            "[2001:db8::1]/db",
            "localhost,db.corp.example/db",
            "localhost/db?host=db.corp.example",
            "localhost/db?hostaddr=10.0.0.1",
            "db.corp.example/db?sslmode=",
        )
    },
    **{
        f"listener: {name}": ({"listeners": [listener]}, message)
        for name, listener, message in (
            ("plaintext beyond loopback", {"address": "0.0.0.0:1"}, "tls.certificate"),
            ("no port", {"address": "127.0.0.1"}, "host:port"),
            *(
                (f"odd address {odd!r}", {"address": odd, "mesh_terminates_tls": True}, "listeners.0.address")
                for odd in (
                    *("unix:0", "unix:/run/x.sock", "unix:///x:1", "unix-abstract:x:1", "vsock:1", "VSOCK:1"),
                    *("ipv4:127.0.0.1:1", "dns:///localhost:1", "::1:1", "[::1", "[::g]:1", "[1.2.3.4.5]:1"),
                    *(
                        ":1",
                        "-:1",
                        "a b:1",
                        "127.0.0.1:-1",
                        "127.0.0.1:65536",
                        "127.0.0.1:1\n",
                        "127.0.0.1:\u0661",
                    ),
                )
            ),
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
    "no listener": ({"listeners": []}, "listeners: name at least one"),
    "a token demanded beside mtls, and no issuer": (
        {"identity": None, "listeners": [MTLS, {"demand": "jwt"}]},
        "identity.jwt.issuers",
    ),
    "unknown setting": ({"lisen": "x"}, "lisen: unknown setting"),
    "unknown setting inside": (
        {"ledger": {"path": "x", "pth": "y"}},
        "ledger.pth: unknown setting",
    ),
    "empty targets": (targets(), "eks.targets"),
    "account as a number": (targets({"account_id": 111122223333}), "eks.targets.0.account_id"),
    "region without a number": (targets({}, {"region": "us-east"}), "eks.targets.1.region"),
    "target twice": (targets({}, {"role_arn": ROLE}), "111122223333 in us-east-1 twice"),
    "two accounts without a role": (
        targets({}, {"account_id": "444455556666"}),
        "no `role_arn` in the accounts 111122223333, 444455556666",
    ),
    "role in another account": (
        targets({"role_arn": ROLE.replace("1111", "9999")}),
        "in account 999922223333, and `account_id` is 111122223333",
    ),
    **{
        f"role {arn}": (targets({"role_arn": arn}), "no role's ARN")
        for arn in ("eksgateway", ROLE.replace("role/", "user/"), f"{ROLE}\n", ROLE.replace("::", ":x:"))
    },
    "external id without a role": (targets({"external_id": "e-1"}), "set `role_arn` too"),
    "endpoint of STS without a role": (targets({"sts_endpoint_url": "https://sts"}), "set `role_arn` too"),
    "external id with a blank": (targets({"role_arn": ROLE, "external_id": "e 1"}), "external_id"),
    "endpoint that is no URL": (targets({"endpoint_url": "127.0.0.1:4510"}), "http or https URL"),
    "endpoint of STS without a host": (
        targets({"role_arn": ROLE, "sts_endpoint_url": "https:///sts"}),
        "http or https URL",
    ),
    "metrics for everybody": ({"metrics": {"listen": "0.0.0.0:9464"}}, "open_to_network: true"),
    "metrics without a port": ({"metrics": {"listen": "127.0.0.1"}}, "host:port"),
    **{
        f"{name} for an OPA": (
            {"policy": {"engine": "opa", "opa": {"url": "http://127.0.0.1:8181"}, name: "file"}},
            f"`{name}` is for the engine wasm, and the engine is opa",
        )
        for name in ("data", "module")
    },
    **{
        f"an OPA for the engine wasm, data {data}": (
            {"policy": {"data": data, "opa": {"url": "http://127.0.0.1:8181"}}},
            "`opa` is for the engine opa, and the engine is wasm",
        )
        for data in ("data.yaml", None)
    },
    **{
        f"an OPA asked every {poll_s} s with {timeout_s} s for an answer": (
            {
                "policy": {
                    "engine": "opa",
                    "opa": {"url": "http://127.0.0.1:8181", "poll_s": poll_s},
                    "timeout_s": timeout_s,
                }
            },
            "set `timeout_s` to 2 at most, and `opa.poll_s` so that both together are 3 at most",
        )
        for poll_s, timeout_s in ((1.1, 2), (0.1, 2.1), (2.6, 0.5))
    },
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
            message,
        )
        for jwks, message in (
            ("http://idp.corp.example/keys", "use an https URL"),
            ("http://localhost:80@idp.corp.example/keys", "without a user"),
            ("https://user@idp.corp.example/keys", "without a user"),
            ("https:///keys", "with a host"),
            ("htps://idp.corp.example/keys", "nothing can be fetched by 'htps'"),
            ("https:/idp.corp.example/keys", "with a host"),
            ("https:idp.corp.example/keys", "with a host"),
            ("idp.corp.example:8443/keys", "nothing can be fetched by 'idp.corp.example'"),
            ("file:///etc/keys.json", "or the path of a file"),
            ("ftp://idp.corp.example/keys", "nothing can be fetched by 'ftp'"),
            ("keys:v1.json", "with ./ before it"),
            ("https://idp.corp.example:0/keys", "port between 1 and 65535"),
            ("https://idp.corp.example:70000/keys", "jwks: Port out of range"),
            ("https://idp.corp.example:x/keys", "jwks: Port could not be cast"),
            (" https://idp.corp.example/keys", "remove the blanks"),
            ("https://idp.corp.example/ke\nys", "remove the blanks"),
            ("https://idp.corp.example/a key", "without a user or blanks"),
        )
    },
    **{
        f"issuer with {changes}": (
            {
                "identity": {
                    "jwt": {
                        "issuers": [
                            {"name": "a", "issuer": "i", "audience": "a", "jwks": "https://idp/keys"}
                            | changes
                        ]
                    }
                }
            },
            message,
        )
        for changes, message in (
            ({"jwks": "keys.json", "jwks_ca_file": "ca.pem"}, "`jwks_ca_file` is for an https URL"),
            ({"jwks": "http://[::1]/keys", "jwks_ca_file": "ca.pem"}, "`jwks_ca_file` is for an https URL"),
            ({"jwks": "keys.json", "jwks_token_file": "token"}, "`jwks_token_file` is sent to a URL"),
            ({"audience": []}, "audience: name at least one"),
            ({"audience": [""]}, "issuers.0.audience.0"),
            ({"groups_claim": []}, "issuers.0.groups_claim"),
            ({"subject_claim": ["a", ""]}, "issuers.0.subject_claim"),
            ({"claims": {"a.b": "c"}}, "issuers.0.claims.a.b"),
            ({"claims": {"ref": []}}, "issuers.0.claims.ref"),
            ({"claims": ["ref"]}, "issuers.0.claims"),
            ({"claims": {f"c{n}": "c" for n in range(21)}}, "issuers.0.claims"),
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


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_unusable_settings_are_refused_with_the_correction(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """Incomplete, unsafe or misspelt settings."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        load(write(tmp_path, **changes))


TEXT = """
policy: {data: data.yaml}
ledger: {path: ledger.db}
identity: {jwt: {issuers: [{name: corp, issuer: https://i, audience: eks, jwks: keys.json}]}}
eks: {targets: [{account_id: "111122223333", region: us-east-1}]}
limits: {calls: 10}
"""
ARN = "arn:aws:iam::011122223333:role/x"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"111122223333"',
            "111122223333",
            "eks.targets.0.account_id: 111122223333 without quotes is a number",
        ),
        ('"111122223333"', "011122223333", 'a number; write it as text: "011122223333"'),
        (
            '"111122223333"',
            '"11122223333"',
            'write the 12 digits in quotes, leading zeros too, for example "0',
        ),
        ('"111122223333"', f'"111122223333", role_arn: "{ARN}"', "account 011122223333"),
        ('"111122223333"', "", "eks.targets.0.account_id: is empty: set it"),
        ("us-east-1", "useast1", "eks.targets.0.region: write a region of AWS, for example us-east-1"),
        ("name: corp", "name: Corp", "issuers.0.name: write up to 32 lower-case letters, digits and hyphens"),
        ("us-east-1", "no", 'eks.targets.0.region: no without quotes is a boolean; write it as text: "no"'),
        (
            "audience: eks",
            "audience: 2026-01-01",
            "audience: 2026-01-01 without quotes is a date; write it as",
        ),
        ("audience: eks", "audience: ", "issuers.0.audience: is empty: set it"),
        ("audience: eks", "audience: [a, 1]", "issuers.0.audience.1: 1 without quotes is a number"),
        ("audience: eks", "audience: a, groups_claim: no", "0.groups_claim: no without quotes is a boolean"),
        ("audience: eks", "audience: a, groups_claim: [b, 1]", "0.groups_claim.1: 1 without quotes is a num"),
        ("audience: eks", "audience: a, subject_claim: []", "issuers.0.subject_claim: name at least one"),
        ("audience: eks", "audience: a, algorithms: RS256", "issuers.0.algorithms: must be a list"),
        ("limits: {calls: 10}", "listeners: yes", "listeners: must be a list"),
        ("limits: {calls: 10}", "limits: ", "limits: must be a mapping: write one, or remove this setting"),
        (
            "issuer: https://i",
            "issuer: 1.5",
            'issuer: 1.5 without quotes is a number; write it as text: "1.5"',
        ),
        ("name: corp", "name: on", 'name: on without quotes is a boolean; write it as text: "on"'),
        ("path: ledger.db", "path: 1", "ledger.path: 1 without quotes is a number"),
        ("calls: 10", "calls: 010", "limits.calls: 010 is 8 to YAML; write it as a plain number"),
        ("calls: 10", "call_timeout_s: 1:30", "limits.call_timeout_s: 1:30 is 90 to YAML"),
        ("calls: 10", "calls: yes", "limits.calls: must be a number, and YAML reads on, off, yes and no as"),
        ("calls: 10", "call_timeout_s: on", "limits.call_timeout_s: must be a number"),
        ("calls: 10", "call_timeout_s: .inf", "limits.call_timeout_s: Input should be a finite number"),
        ("limits: {calls: 10}", "limits: &a {calls: *a}", "stands inside its own anchor"),
    ],
)
def test_values_that_yaml_misreads_are_refused_with_the_correction(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    load(path)
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert message in str(caught.value)


def test_only_the_innermost_fault_is_named(tmp_path: Path) -> None:
    """A list whose only element has a fault is not reported as empty."""
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, listeners=[{"address": "127.0.0.1"}]))
    assert re.findall(r"(?m)^  - (\S+):", str(refused.value)) == ["listeners.0.address"]


def test_metrics_listen_beyond_loopback_with_open_to_network(tmp_path: Path) -> None:
    """Prometheus in Kubernetes does not reach the pod's loopback."""
    settings = load(write(tmp_path, metrics={"listen": "0.0.0.0:9464", "open_to_network": True}))
    assert settings.metrics.listen == "0.0.0.0:9464"


def test_jwks_is_a_url_or_a_file(tmp_path: Path) -> None:
    """Paths are relative to the settings file."""

    def issuer(**changes: Any) -> IssuerSettings:
        raw = {"name": "a", "issuer": "i", "audience": "a", "jwks": "https://idp/keys"} | changes
        jwt = load(write(tmp_path, identity={"jwt": {"issuers": [raw]}})).identity.jwt
        assert jwt is not None
        return jwt.issuers[0]

    by_url = issuer(jwks="HTTPS://idp/keys", jwks_ca_file="ca.pem", jwks_token_file="/var/token")
    assert by_url.jwks_is_url
    assert by_url.jwks_ca_file == tmp_path / "ca.pem"
    assert by_url.jwks_token_file == Path("/var/token")
    for path in ("keys.json", "./keys:v1.json", "idp.corp.example/keys"):
        assert not issuer(jwks=path).jwks_is_url
        assert issuer(jwks=path).jwks == str(tmp_path / path)
    assert issuer(audience="a").audiences == ("a",)
    assert issuer(audience=["a", "b"]).audiences == ("a", "b")
    assert issuer(groups_claim=["a", "b.c"]).groups_claim == ("a", "b.c")
    claims = {"ref": "ref", "namespace": ["kubernetes.io", "namespace"]}
    assert issuer(claims=claims).claims == {"ref": "ref", "namespace": ("kubernetes.io", "namespace")}
    assert issuer().claims == {}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@localhost/db",
        "postgres://u:p%40@127.0.0.1:5432,[::1]:5433/db",
        "postgresql://u@%2Fvar%2Frun%2Fpostgresql/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://u@db.corp.example/db?sslmode=require",
    ],
)
def test_a_ledger_in_postgresql_needs_tls_beyond_this_host(tmp_path: Path, url: str) -> None:
    ledger = load(write(tmp_path, ledger={"url": url, "schema": "other"})).ledger
    assert ledger.location == PostgresLocation(url, "other")
    assert (ledger.listen_url, ledger.connections) == (None, 8)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:se:cr%40et@localhost/db", "postgresql://u@localhost/db"),
        ("postgresql://localhost/db?oauth_client_secret=secret", "postgresql://localhost/db"),
        (
            "postgresql://localhost/db?password=secret&sslmode=disable",
            "postgresql://localhost/db?sslmode=disable",
        ),
        ("postgresql://u@localhost/db", "postgresql://u@localhost/db"),
    ],
)
def test_the_password_of_a_url_is_not_printed(tmp_path: Path, url: str, shown: str) -> None:
    """Not in the name of the ledger, in the settings, or in an error."""
    ledger = load(write(tmp_path, ledger={"url": url, "listen_url": url})).ledger
    assert str(ledger.location) == shown
    for text in (repr(ledger), repr(ledger.location)):
        assert "secret" not in text
        assert "cr%40et" not in text
    with pytest.raises(SettingsError) as refused:
        load(write(tmp_path, ledger={"url": url, "listen_url": url.replace("localhost", "db"), "path": "x"}))
    assert "secret" not in str(refused.value)


def test_the_first_target_is_the_home_target(tmp_path: Path) -> None:
    """A target in another account has a role, perhaps in another partition."""
    china = {
        "account_id": "444455556666",
        "region": "cn-north-1",
        "role_arn": "arn:aws-cn:iam::444455556666:role/teams/a",
        "external_id": "corp:1/x",
    }
    settings = load(write(tmp_path, **targets({"region": "eu-west-1"}, {}, china)))
    assert settings.eks.home == Target("111122223333", "eu-west-1")
    assert [each.target.region for each in settings.eks.targets] == ["eu-west-1", "us-east-1", "cn-north-1"]


def test_plaintext_beyond_loopback_needs_mesh_terminates_tls(tmp_path: Path) -> None:
    listener = {"address": "0.0.0.0:50051", "mesh_terminates_tls": True}
    assert load(write(tmp_path, listeners=[listener])).listeners[0].tls is None


@pytest.mark.parametrize(
    "address", ["[::1]:50051", "localhost:0", "127.0.0.2:65535", "node-1.corp.example:1"]
)
def test_an_address_is_an_ip_or_a_host_name_with_a_port(tmp_path: Path, address: str) -> None:
    """IPv6 in brackets; port 0 takes a free one."""
    listener = {"address": address, "tls": PAIR}
    assert load(write(tmp_path, listeners=[listener])).listeners[0].address == address


def test_no_issuer_is_needed_if_all_listeners_demand_mtls(tmp_path: Path) -> None:
    """The client CA is then the identity source; its path is relative to the file too."""
    settings = load(write(tmp_path, identity=None, listeners=[MTLS]))
    tls = settings.listeners[0].tls
    assert tls is not None
    assert tls.client_ca == tmp_path / "ca.pem"
    assert settings.identity.jwt is None


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """So the folder can be moved."""
    settings = load(write(tmp_path, ledger={"path": "here.db"}))
    assert settings.ledger.path == tmp_path / "here.db"


@pytest.mark.parametrize(
    "text",
    ["[", "- a", "\x00", "", "eks: a\neks: b"],
    ids=["broken", "list", "binary", "empty", "key twice"],
)
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """And a missing file."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="config"):
        load(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("? [a, b]\n: c\n", "line 1"),
        ("server:\n  ? {a: 1}\n  : c\n", "line 2"),
        ("eks: {targets: [{external_id: 2026-13-45}]}\n", "in quotes"),
        ("eks: !!int many\n", "line 1, column 6: the tag"),
    ],
)
def test_yaml_errors_are_reported_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    """A name that is not text, or a date that does not exist."""
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load(tmp_path / "config.yaml")
