"""Compiles policies/ to the package's Wasm module, and copies the schemas beside it.

policies/eksgateway/schema.rego is generated from the schema first.

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
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "server" / "eksgateway" / "policy"
POLICIES: Final = ROOT / "policies"
OPA_VERSION: Final = "1.22.2"  # as in build_tools.sh; other versions compile to other bytes
ENTRYPOINT: Final = "eksgateway/authz/decision"
# Without revision.rego, which uses built-ins that the Wasm host does not provide.
SOURCES: Final = [f"policies/eksgateway/{name}.rego" for name in ("authz", "wellformed", "schema")]
SCHEMA_REGO: Final = """\
# METADATA
# title: The keys and values that grants and freezes may have
# description: Generated from policies/schemas/data.json by `make policy`. Do not edit.
package eksgateway.schema
"""


def to_rego(schema: dict[str, Any]) -> str:
    """The parts of the policy data's schema that wellformed.rego needs, as Rego."""
    grant, freeze = (schema["definitions"][name]["properties"] for name in ("grant", "freeze"))
    sets = {
        "grant_keys": list(grant),
        "freeze_keys": list(freeze),
        "actions": grant["actions"]["items"]["enum"],
        "requirements": grant["require"]["items"]["enum"],
    }
    lines = [f"\n{name} := {{{', '.join(map(json.dumps, values))}}}\n" for name, values in sets.items()]
    return SCHEMA_REGO + "".join(lines)


def build(target: Path) -> None:
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


def main(target: Path | None = None) -> None:
    """Write everything to its place in the repository, or all of it into ``target``."""
    data_schema = json.loads((POLICIES / "schemas" / "data.json").read_text())
    (target or POLICIES / "eksgateway").joinpath("schema.rego").write_text(to_rego(data_schema))
    build(target or PACKAGE)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
