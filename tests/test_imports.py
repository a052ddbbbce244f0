"""Imports point one way, as drawn in docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "server" / "eksgateway"

BASE = {
    *("model", "errors", "phases", "clock", "settings", "signals", "logs", "v1"),
    *(
        "addresses",
        "blocking",
        "file_reader",
        "file_writer",
        "file_descriptors",
        "metrics_server",
        "revocation",
        "single_flight",
        "strict_json",
        "strict_yaml",
    ),
}
PARTS = {"policy", "ledger", "eks", "identity"}
FLOWS = {
    "cancellation",
    "forwarding",
    "idempotency",
    "joining",
    "cancellability",
    "cancellable_updates",
    "decisions",
    "watch",
}
MAY_IMPORT = {
    "cli": {"app", "gateway", "opening", "rpc", "client", "sandbox", "simulator"} | PARTS | BASE,
    "__main__": {"cli"},
    "sandbox": {"opening", "client", "ledger", "policy", "simulator"} | BASE,
    "opening": {"app", "gateway", "metrics", "fleet"} | PARTS | BASE,
    "app": {"core", "edge", "gateway", "rpc", "rights", "metrics", "fleet"} | FLOWS | PARTS | BASE,
    "core": {"rights", "metrics", "fleet"} | FLOWS | PARTS | BASE,
    "gateway": {"edge", "rpc", "fleet"} | FLOWS | PARTS | BASE,
    "edge": {"rpc", "metrics"} | BASE,
    "rpc": {"rights", "metrics"} | FLOWS | PARTS | BASE,
    "rights": {"decisions", "watch"} | PARTS | BASE,
    "idempotency": {"cancellation"} | BASE,
    "cancellation": {"decisions", "forwarding", "joining", "metrics"} | PARTS | BASE,
    "joining": {"ledger"} | BASE,
    "cancellable_updates": {"cancellability", "decisions"} | PARTS | BASE,
    "watch": PARTS | BASE,
    "decisions": PARTS | BASE,
    "metrics": {"policy", "fleet"} | BASE,
    "fleet": {"eks", "ledger"} | BASE,
    "forwarding": {"eks"} | BASE,
    "cancellability": BASE,
    "client": {"v1"},
    "simulator": BASE,
    **dict.fromkeys(PARTS, BASE),
    **dict.fromkeys(BASE, BASE),
}
# The modules and folders of the policy. Each imports those of earlier rows only.
POLICY_ROWS = (
    {"patterns", "question", "edges", "results", "revision", "workers", "wasm_runtime"},
    {"decision_memory", "eval_function", "guest_memory", "private_folder"},
    {"machine_code"},
    {"coverage", "engine", "opa_client", "input_files", "bundle"},
    {"compiler", "opa_bundles", "wasm_module"},
    {"source"},
    {"cost_questions", "review"},
    {"compiled_policy", "lint"},
    {"compile_process", "files", "decision_cost"},
    {"loaded_policy", "reloader"},
    {"evaluator", "wasm", "opa"},
    {"factory"},
)
POLICY_TOOLS = {"bundle", "evaluator", "input_files", "lint", "review"}  # a gateway does without
CONFINED = {
    "grpc": {"app", "client", "edge", "rpc", "cli", "sandbox", "v1"},
    "boto3": {"eks", "simulator"},
    "botocore": {"eks", "simulator"},
    "opa_client": {"policy"},
    "wasmtime": {"policy"},
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    "psycopg": {"fleet", "ledger", "sandbox"},
    "prometheus_client": {"metrics", "metrics_server"},
    "jwt": {"identity", "sandbox"},
}


def list_modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if "v1" not in path.parts)


def read_imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which way they point"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", list_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_lower_parts(path: Path) -> None:
    """The failure names the import."""
    part = part_of(path)
    if part == "__init__":
        return
    for name in read_imports(path):
        top, *rest = name.split(".")
        if top == "eksgateway":
            other = rest[0] if rest else part
            assert other == part or other in MAY_IMPORT[part], f"{part} must not import {name}"
        elif top in CONFINED:
            assert part in CONFINED[top], f"{part} must not import {top}"


def test_every_part_has_allowed_imports() -> None:
    """A new part needs an entry."""
    parts = {part_of(path) for path in list_modules()} - {"__init__"}
    assert parts <= set(MAY_IMPORT)


def read_policy_imports(path: Path) -> set[str]:
    """The parts of the policy that a module imports."""
    names = (name.split(".") for name in read_imports(path))
    return {name[2] for name in names if name[:2] == ["eksgateway", "policy"] and len(name) > 2}


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "policy").rglob("[!_]*.py")),
    ids=lambda path: str(path.relative_to(ROOT / "policy")),
)
def test_policy_module_imports_only_earlier_rows(path: Path) -> None:
    part = path.relative_to(ROOT / "policy").parts[0].removesuffix(".py")
    row = next(number for number, parts in enumerate(POLICY_ROWS) if part in parts)
    assert read_policy_imports(path) - {part} <= set().union(*POLICY_ROWS[:row])


def test_only_commands_import_tools_of_policy_data() -> None:
    """A gateway starts without them."""
    for path in list_modules():
        part, *rest = path.relative_to(ROOT).parts
        own = rest[0].removesuffix(".py") if rest else ""
        is_command = (part == "cli" and own.startswith("policy_")) or part == "sandbox"
        if not is_command and not (part == "policy" and own in POLICY_TOOLS):
            tools = read_policy_imports(path) & POLICY_TOOLS
            assert not tools, f"{path} must not import {tools}"
