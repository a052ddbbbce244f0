"""The extras: an empty environment with a built wheel and only what one extra brings.

The packages come from the environment of the tests, so nothing is downloaded.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.settings import LedgerSettings
from support.records import intent

ROOT = Path(__file__).parent.parent
CLIENT = {
    "eksgateway",
    "googleapis-common-protos",
    "grpcio",
    "protobuf",
    "typing-extensions",
}
SERVER = {"aiohttp", "alembic", "boto3", "botocore", "cryptography", "pyjwt", "sqlalchemy", "wasmtime"}
CLIENT_MODULES = {"eksgateway", "google", "grpc", "typing_extensions"}
OF_GRPC = {"cython_runtime", "grpc_health", "grpc_reflection", "grpc_tools"}  # it imports what is installed


@dataclass(frozen=True)
class Environment:
    """``packages`` are the names of what is installed."""

    python: Path
    packages: frozenset[str]
    size: int

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *arguments], capture_output=True, text=True, timeout=60, env={}, check=False
        )

    def eksgateway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.python.parent / "eksgateway"), *arguments)


def find_required(wheel: Distribution, extra: str) -> dict[str, Distribution]:
    """The packages that pip would install besides the wheel."""
    found: dict[str, Distribution] = {}
    pending = list(list_requirements(wheel, {extra}))
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name == "eksgateway":
            pending += list_requirements(wheel, requirement.extras)
        elif name not in found:
            found[name] = distribution(name)
            assert requirement.specifier.contains(found[name].version, prereleases=True)
            pending += list_requirements(found[name], requirement.extras)
    return found


def list_requirements(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for requirement in map(Requirement, package.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement


def link_files(package: Distribution, site: Path) -> int:
    """Returns their size in bytes."""
    size = 0
    for file in package.files or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts:  # scripts of other packages
            continue
        source, target = Path(str(file.locate())), site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        size += source.stat().st_size
    return size


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, timeout=120, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def install(wheel: Path, folder: Path, extra: str) -> Environment:
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)],
        check=True,
        timeout=120,
    )
    (site,) = folder.glob("lib/python*/site-packages")
    (info,) = site.glob("eksgateway-*.dist-info")
    installed = Distribution.at(info)
    required = find_required(installed, extra)
    own = sum(Path(str(file.locate())).stat().st_size for file in installed.files or ())
    size = own + sum(link_files(package, site) for package in required.values())
    subprocess.run([*pip, "check"], check=True, timeout=60, capture_output=True)
    return Environment(python, frozenset({"eksgateway", *required}), size)


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(wheel, tmp_path_factory.mktemp("client"), "client")


@pytest.fixture(scope="module")
def cli(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return install(wheel, tmp_path_factory.mktemp("cli"), "cli")


def test_client_extra_brings_grpc_and_the_messages_only(client: Environment) -> None:
    """The whole environment is a tenth of the server's."""
    assert client.packages == CLIENT
    assert client.size < 40_000_000
    done = client.run("-c", "from eksgateway.client import sync; print(*sync.__all__)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "watch" in done.stdout


def test_no_extra_brings_what_the_client_extra_brings(client: Environment) -> None:
    (info,) = client.python.parent.parent.glob("lib/python*/site-packages/eksgateway-*.dist-info")
    assert {"eksgateway", *find_required(Distribution.at(info), "")} == client.packages


def test_server_extras_bring_the_server(client: Environment) -> None:
    (info,) = client.python.parent.parent.glob("lib/python*/site-packages/eksgateway-*.dist-info")
    for extra, more in {"server": set(), "postgres": {"psycopg"}, "fleet-sandbox": {"psycopg"}}.items():
        assert find_required(Distribution.at(info), extra).keys() >= SERVER | more, extra


@pytest.mark.parametrize("command", ["serve", "cancel", "--version"])
def test_commands_without_their_extra_name_it_in_one_line(client: Environment, command: str) -> None:
    done = client.eksgateway(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "eksgateway: typer is not installed: run pip install 'eksgateway[cli]' to call a gateway,"
        " or 'eksgateway[server]' to run one\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        ("health", "--config", "config.yaml"),
        ("simulate",),
        ("sandbox",),
        ("demo",),
        ("policy", "check", "data.yaml"),
        ("policy", "bundle", "data.yaml"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_commands_of_the_server_name_its_extra_in_one_line(
    cli: Environment, command: tuple[str, ...]
) -> None:
    done = cli.eksgateway(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("eksgateway: ")
    assert done.stderr.endswith(" is not installed: run pip install 'eksgateway[server]'\n")
    assert done.stderr.count("\n") == 1


async def test_ledger_is_verified_without_the_server(cli: Environment, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(LedgerSettings(path=path), SystemClock())
    await ledger.commit_intent(intent("1"))
    await ledger.close()
    done = cli.eksgateway("ledger", "verify", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Sound: 1 event")


def test_serve_names_its_extra_after_what_it_logs(cli: Environment) -> None:
    done = cli.eksgateway("serve", "--config", str(ROOT / "config.example.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    *logged, last = done.stderr.splitlines()
    assert all(line.startswith("{") for line in logged)
    assert last.startswith("eksgateway: ")
    assert last.endswith(" is not installed: run pip install 'eksgateway[server]'")


def test_commands_that_call_a_gateway_need_the_cli_extra_alone(cli: Environment) -> None:
    """Each fails only because no gateway is there."""
    assert not cli.packages & SERVER
    assert cli.eksgateway("--help").returncode == 0
    calls = (
        ("health", "--address", "127.0.0.1:1"),
        ("cancel", "prod-1", "u-1", "--timeout", "1", "--address", "127.0.0.1:1"),
    )
    for call, code in zip(calls, (1, 5), strict=True):
        done = cli.eksgateway(*call)
        assert done.returncode == code, done.stderr
        assert "not installed" not in done.stderr


def test_an_installed_server_makes_the_bundle_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Its wheel has the Rego."""
    (tmp_path / "server").mkdir()
    server = install(wheel, tmp_path / "server", "server")
    written: list[bytes] = []
    for place in (server, Environment(Path(sys.executable), frozenset(), 0)):
        output = tmp_path / f"{len(written)}.tar.gz"
        data = str(ROOT / "policies" / "data.example.yaml")
        done = place.run("-m", "eksgateway", "policy", "bundle", data, "-o", str(output))
        assert done.returncode == 0, done.stderr
        written.append(output.read_bytes())
    assert written[0] == written[1]


def test_importing_the_client_imports_nothing_of_the_server() -> None:
    """Also where the server's packages are installed."""
    code = (
        "import sys; before = set(sys.modules); import eksgateway.client, eksgateway.client.sync;"
        " print(*{name.partition('.')[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert {name for name in done.stdout.split() if not name.startswith("_")} <= (CLIENT_MODULES | OF_GRPC)
