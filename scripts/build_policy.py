"""Compiles policies/ to the package's Wasm module, and copies the schemas beside it.

Run by `make policy`. tests/policy/test_build.py fails when a fresh build differs from the committed one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "server" / "eksgateway" / "policy"
OPA_VERSION = "1.22.2"  # as in build_tools.sh; other versions compile to other bytes
ENTRYPOINT = "eksgateway/authz/decision"
# Only what the decision needs. revision.rego uses built-ins that the Wasm host does not provide.
SOURCES = ("policies/eksgateway/authz.rego", "policies/eksgateway/wellformed.rego")


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
        shutil.copyfile(ROOT / "policies" / "schemas" / f"{name}.json", target / f"{name}.schema.json")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
