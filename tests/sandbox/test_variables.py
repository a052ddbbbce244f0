"""The variables that a sandbox sets in a user's shell."""

from __future__ import annotations

import re
from pathlib import Path

from eksgateway.cli.connection_settings import NAMES, VARIABLES
from eksgateway.sandbox.folder import SandboxFolder, write_variables


def test_no_setting_of_the_users_own_reaches_a_sandboxs_commands(tmp_path: Path) -> None:
    """Each variable that commands read is set or unset."""
    folder = SandboxFolder(tmp_path)
    write_variables(folder, ["127.0.0.1:1"], {}, {"oncall": "token"})
    settled = set(re.findall(r"EKSGATEWAY_\w+", folder.variables.read_text()))
    assert settled == {"EKSGATEWAY_CONFIG", "EKSGATEWAY_CONTEXT", *map(VARIABLES, NAMES)}
