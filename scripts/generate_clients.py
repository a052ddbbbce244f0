"""Generates the code of clients/go or clients/typescript from protos/, with the plugins in buf.gen.yaml.

Usage: generate_clients.py go|typescript [output folder, instead of the repository]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
# TypeScript has no package with google.rpc.ErrorInfo; the other languages have one.
INPUTS: Final = {"go": ("protos",), "typescript": ("protos", "third_party")}


def generate(language: str, out: Path) -> None:
    template = yaml.safe_load((ROOT / "buf.gen.yaml").read_text())
    prefix = f"clients/{language}"
    plugins = [each for each in template["plugins"] if f"{each['out']}/".startswith(f"{prefix}/")]
    for folder in INPUTS[language]:
        only = json.dumps({"version": "v2", "plugins": plugins})
        subprocess.run(["buf", "generate", "--template", only, "--output", out, folder], cwd=ROOT, check=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in INPUTS:
        sys.exit(__doc__)
    generate(sys.argv[1], Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else ROOT)
