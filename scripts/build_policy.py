"""Compiles policies/ to the package's Wasm module, copies the schemas beside it, and compiles the policy
content of the Rego's tests.

Run by `make policy`; tests/policy/test_build.py fails when a fresh build differs from what is committed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import yaml

from eksgateway.policy.compiler import compile_content

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "server" / "eksgateway" / "policy"
POLICIES: Final = ROOT / "policies"
OPA_VERSION: Final = "1.22.2"  # as in build_tools.sh; other versions compile to other bytes
ENTRYPOINT: Final = "eksgateway/authz/decision"
# All but revision.rego, which the gateway asks an OPA only.
SOURCES: Final = [
    str(path.relative_to(ROOT))
    for path in sorted((POLICIES / "eksgateway").glob("*.rego"))
    if path.name != "revision.rego"
]


def build(target: Path = PACKAGE) -> None:
    """Write policy.wasm, data.schema.json and input.schema.json into ``target``."""
    version = subprocess.run(["opa", "version"], check=True, capture_output=True, text=True).stdout
    if f"Version: {OPA_VERSION}\n" not in version:
        sys.exit(f"opa {OPA_VERSION} is needed, but this is:\n{version}")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle.tar.gz"
        # Relative paths from the repository's root, because the module's messages contain them.
        command = ["opa", "build", "-t", "wasm", "-e", ENTRYPOINT, "-o", str(bundle), *SOURCES]
        subprocess.run(command, check=True, cwd=ROOT)
        with tarfile.open(bundle) as archive:
            module = archive.extractfile("/policy.wasm")
            if module is None:
                sys.exit("opa build wrote a bundle without policy.wasm")
            (target / "policy.wasm").write_bytes(module.read())
    for name in ("data", "input"):
        shutil.copyfile(POLICIES / "schemas" / f"{name}.json", target / f"{name}.schema.json")


def build_fixtures(target: Path = POLICIES / "tests") -> None:
    """Write fixtures.json, ``{"fixtures": {name: index}}``, into ``target``."""
    contents = yaml.safe_load((POLICIES / "tests" / "fixtures.yaml").read_text())
    empty: dict[str, list[object]] = {"grants": [], "denials": [], "freezes": []}
    fixtures = {
        name: compile_content(empty | content)["eksgateway"]["index"] for name, content in contents.items()
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(index)}" for name, index in fixtures.items())
    (target / "fixtures.json").write_text(f'{{"fixtures": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    folder = tuple(map(Path, sys.argv[1:2]))
    build(*folder)
    build_fixtures(*folder)
