"""Contexts, and which setting of an option, the environment and a context holds."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from eksgateway.cli.connection import Connection, connect, is_local
from eksgateway.cli.connection_settings import ConnectionSettings
from eksgateway.cli.contexts import contexts_path, read_contexts
from eksgateway.cli.exit_codes import CommandError
from support.processes import RunningProgram, eksgateway_command, run_program

TOKEN = "token"


async def context(folder: Path, *words: str, code: int = 0) -> RunningProgram:
    environment = {"EKSGATEWAY_CONFIG": str(folder / "config.yaml")}
    async with run_program(*eksgateway_command("context", *words), env=environment) as shown:
        assert await shown.end() == code, shown.out + shown.err
        return shown


def write(folder: Path, text: str) -> dict[str, str]:
    """An environment that names the file."""
    path = folder / "config.yaml"
    path.write_text(textwrap.dedent(text))
    return {"EKSGATEWAY_CONFIG": str(path)}


def reach(environment: Mapping[str, str], name: str = "", **options: Any) -> Connection:
    return connect(ConnectionSettings(**options), name, environment, lambda _: None)


async def test_contexts_are_added_chosen_listed_and_removed(tmp_path: Path) -> None:
    """The first one is the current one. The file has no token, and other users cannot read it."""
    (tmp_path / "t").write_text(TOKEN)
    await context(
        tmp_path, "add", "prod", "--address", "gateway.example:443", "--token-file", str(tmp_path / "t")
    )
    command = "print token --for 'a b'"
    await context(
        tmp_path, "add", "lab", "--address", "127.0.0.1:1", "--plaintext", "--token-command", command
    )
    file = tmp_path / "config.yaml"
    assert file.stat().st_mode & 0o077 == 0
    assert yaml.safe_load(file.read_text()) == {
        "current": "prod",
        "contexts": {
            "prod": {"address": "gateway.example:443", "token_file": str(tmp_path / "t")},
            "lab": {
                "address": "127.0.0.1:1",
                "plaintext": True,
                "token_command": ["print", "token", "--for", "a b"],
            },
        },
    }
    await context(tmp_path, "use", "lab")
    listed = [line.split()[:3] for line in (await context(tmp_path, "list")).out.splitlines()]
    assert listed == [
        ["CURRENT", "NAME", "ADDRESS"],
        ["prod", "gateway.example:443", str(tmp_path / "t")],
        ["*", "lab", "127.0.0.1:1"],
    ]
    assert (await context(tmp_path, "current")).out == "lab\n"
    await context(tmp_path, "remove", "lab")
    assert "no current context" in (await context(tmp_path, "current", code=1)).err
    assert "there is no context 'lab'" in (await context(tmp_path, "use", "lab", code=1)).err


async def test_an_existing_context_is_only_replaced_if_asked(tmp_path: Path) -> None:
    await context(tmp_path, "add", "prod", "--address", "one.example:1")
    refused = await context(tmp_path, "add", "prod", "--address", "two.example:2", code=1)
    assert "--replace replaces it" in refused.err
    await context(tmp_path, "add", "prod", "--address", "two.example:2", "--replace")
    assert "two.example:2" in (await context(tmp_path, "list")).out


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "contexts: {a: {address: a:1, tokenfile: t}}",
            "line 1: context `a` has no setting `tokenfile`: did you mean `token_file`?",
        ),
        ("current: a\ncontext: {}", "line 2: the file has no setting `context`: did you mean `contexts`?"),
        ("contexts:\n  a:\n    address: 1", 'line 3: `address` of context `a` must be text: write "1"'),
        (
            "contexts:\n  a:\n    address: gateway",
            "line 3: `address` of context `a`: 'gateway' is not an address",
        ),
        ("contexts:\n  a:\n    ca: c.pem", "line 3: context `a` has no `address`"),
        (
            "contexts:\n  a: {address: a:1, plaintext: 'yes'}",
            "line 2: `plaintext` of context `a` must be true or false",
        ),
        (
            "contexts:\n  a: {address: a:1, plaintext: true, ca: c}",
            "`plaintext` and `ca` contradict each other",
        ),
        ("contexts:\n  a: {address: a:1, certificate: c}", "`certificate` needs `key`"),
        ("contexts:\n  a: {address: a:1, token: abc}", "a token does not belong here"),
        ("contexts:\n  a: {address: a:1, token_command: []}", "`token_command` of context `a` is empty"),
        ("contexts:\n  a: {address: a:1, token_command: [1]}", 'must be text: write "1"'),
        ("contexts:\n  a: {address: a:1}\n  a: {address: b:1}", "line 3: `a` stands twice"),
        ("contexts: [a]", "line 1: `contexts` must be a mapping"),
        ("contexts:\n  1: {address: a:1}", "line 2: a key of `contexts` is not text: write it in quotes"),
        ("current: b\ncontexts: {a: {address: a:1}}", "line 1: `current` names no context: known are a"),
        ("contexts: {a: {address: a:1}", "line 1: is not YAML"),
        (
            "contexts: {a: {address: a:1, plaintext: !!bool maybe}}",
            "line 1: `plaintext` of context `a` must be",
        ),
        ("contexts: {a: {address: a:1, token_file: }}", "`token_file` of context `a` must be text"),
    ],
    ids=lambda text: text.replace("\n", " ")[:40],
)
def test_a_faulty_file_is_refused_with_line_and_remedy(tmp_path: Path, text: str, fault: str) -> None:
    environment = write(tmp_path, text)
    with pytest.raises(CommandError) as caught:
        read_contexts(environment)
    assert fault in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'config.yaml'}: line ")


def test_a_missing_file_of_the_context_in_use_is_refused_with_its_line(tmp_path: Path) -> None:
    """Those of other contexts do not matter. Paths are relative to the file of contexts."""
    (tmp_path / "here").write_text(TOKEN)
    environment = write(
        tmp_path,
        """
        current: good
        contexts:
          good: {address: a:1, token_file: here}
          bad:
            address: a:1
            token_file: gone
        """,
    )
    assert reach(environment).settings.token_file == tmp_path / "here"
    with pytest.raises(CommandError, match=r"line 7: `token_file` of context `bad`: there is no file .*gone"):
        reach(environment, "bad")
    with pytest.raises(CommandError, match=r"there is no context 'ugly' in .* known are good, bad"):
        reach(environment, "ugly")


def test_an_unusable_address_is_named_where_it_was_set() -> None:
    with pytest.raises(CommandError, match=r"^EKSGATEWAY_ADDRESS: 'nowhere' is not an address"):
        reach({"EKSGATEWAY_ADDRESS": "nowhere"})
    with pytest.raises(CommandError, match=r"^--address: 'nowhere' is not an address"):
        reach({"EKSGATEWAY_ADDRESS": "a:1"}, address="nowhere")


def test_a_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nested too deeply"):
        read_contexts(write(tmp_path, "[" * 5000))


def test_the_home_of_an_unknown_user_is_a_missing_file(tmp_path: Path) -> None:
    environment = write(tmp_path, "current: a\ncontexts:\n  a: {address: a:1, ca: ~nobody-here/ca.pem}")
    with pytest.raises(CommandError, match=r"line 3: `ca` of context `a`: there is no file .*~nobody-here"):
        reach(environment)
    with pytest.raises(CommandError, match="there is no such file"):
        read_contexts({"EKSGATEWAY_CONFIG": "~nobody-here/config.yaml"})


def test_a_file_whose_folder_cannot_be_read_is_refused_when_it_is_read(tmp_path: Path) -> None:
    environment = write(tmp_path, f"current: a\ncontexts:\n  a: {{address: a:1, ca: {'c' * 300}}}")
    with pytest.raises(CommandError, match="cannot be read: File name too long"):
        reach(environment).credentials()


async def test_names_in_a_file_of_contexts_cannot_control_the_terminal(tmp_path: Path) -> None:
    environment = write(tmp_path, 'contexts: {"a\\e[31m": {}}')
    async with run_program(*eksgateway_command("context", "list"), env=environment) as shown:
        assert await shown.end() == 1
        assert "context `a [31m` has no `address`" in shown.err


def test_a_named_file_of_contexts_must_exist(tmp_path: Path) -> None:
    """The default one need not."""
    with pytest.raises(CommandError, match="nowhere: there is no such file"):
        read_contexts({"EKSGATEWAY_CONFIG": str(tmp_path / "nowhere")})
    assert reach({"XDG_CONFIG_HOME": str(tmp_path)}).address == "127.0.0.1:50051"


def test_the_file_follows_the_xdg_folders() -> None:
    assert contexts_path({"HOME": "/home/me"}) == Path("/home/me/.config/eksgateway/config.yaml")
    assert contexts_path({"XDG_CONFIG_HOME": "/etc/me"}) == Path("/etc/me/eksgateway/config.yaml")


CONTEXTS = """
    current: now
    contexts:
      now: {address: now:1, token_file: now}
      other: {address: other:1, ca: other, token_file: other}
      bare: {address: bare:1}
"""


@pytest.mark.parametrize(
    ("variables", "name", "options", "address", "token"),
    [
        ({}, "", {}, "now:1", "now"),
        ({}, "other", {}, "other:1", "other"),
        ({"CONTEXT": "other"}, "", {}, "other:1", "other"),
        ({"CONTEXT": "other"}, "bare", {}, "bare:1", ""),
        ({"TOKEN": "v"}, "", {}, "now:1", "v"),
        ({"TOKEN": "v"}, "bare", {}, "bare:1", "v"),
        ({"TOKEN": "v"}, "other", {}, "other:1", "other"),
        ({"ADDRESS": "v:1"}, "", {}, "v:1", ""),
        ({"ADDRESS": "v:1"}, "other", {}, "other:1", "other"),
        ({"ADDRESS": "v:1", "TOKEN": "v"}, "", {"address": "o:1"}, "o:1", "v"),
        ({"TOKEN": "v"}, "", {"token_file": Path("o")}, "now:1", "o"),
        ({"TOKEN_FILE": "f"}, "", {}, "now:1", "f"),
        ({}, "other", {"address": "o:1"}, "o:1", "other"),
        ({}, "", {"address": "o:1"}, "o:1", ""),
    ],
)  # fmt: skip
def test_options_are_over_variables_and_these_over_the_current_context(
    tmp_path: Path,
    *,
    variables: Mapping[str, str],
    name: str,
    options: Mapping[str, Any],
    address: str,
    token: str,
) -> None:
    """The token of the current context never goes to an address from elsewhere."""
    for file in ("now", "other"):
        (tmp_path / file).write_text(file)
    environment = write(tmp_path, CONTEXTS)
    environment |= {f"EKSGATEWAY_{key}": value for key, value in variables.items()}
    found = reach(environment, name, **options).settings
    assert found.address == address
    assert (found.token or (found.token_file.name if found.token_file else "")) == token


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/run/g.sock", True),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("ipv6:[::1]:1", True),
        ("dns:///localhost:1", True),
        ("dns:///gateway.example:1", False),
        ("dns:localhost:1", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("gateway.example:443", False),
        ("localhost.example:443", False),
        ("xds:///gateway", False),
    ],
)
def test_only_loopback_is_called_in_plaintext_by_default(address: str, local: bool) -> None:
    environment = {"EKSGATEWAY_CONFIG": "", "HOME": "/nowhere"}
    assert is_local(address) == local
    assert reach(environment, address=address).plaintext == local
    assert reach(environment, address=address, plaintext=True).plaintext
    assert not reach(environment, address=address, ca=Path("ca")).plaintext


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"plaintext": True, "ca": Path("c")}, "--plaintext and --ca contradict"),
        ({"plaintext": True, "certificate": Path("c"), "key": Path("k")}, "--plaintext and --certificate"),
        ({"key": Path("k")}, "--key needs --certificate"),
        ({"token_file": Path("t"), "token_command": ("t",)}, "--token-file and --token-command"),
    ],
    ids=["ca", "certificate", "key", "token"],
)
def test_options_that_contradict_are_a_usage_error(options: Mapping[str, Any], fault: str) -> None:
    with pytest.raises(CommandError, match=fault) as caught:
        reach({"HOME": "/nowhere"}, **options)
    assert caught.value.code == 2
