"""The exit codes of the commands that call a gateway, and the error that ends one of them."""

from __future__ import annotations

from typing import Final

REFUSED: Final = 1
USAGE: Final = 2  # click's own
ENDED_OTHERWISE: Final = 3
CREDENTIALS: Final = 4
UNREACHABLE: Final = 5
TIMED_OUT: Final = 124  # as timeout(1)
INTERRUPTED: Final = 130  # as a shell reports SIGINT

MEANINGS: Final = {
    0: "done as asked",
    REFUSED: "refused or failed",
    USAGE: "usage",
    ENDED_OTHERWISE: "it ended otherwise than waited for",
    CREDENTIALS: "credentials are missing, refused or expired",
    UNREACHABLE: "no gateway answered",
    TIMED_OUT: "timed out",
    INTERRUPTED: "interrupted",
}


def example(*commands: str) -> str:
    """A help's last lines: the commands as a user types them."""
    return "\n".join(
        ["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {each}" for each in commands)]
    )


class CommandError(Exception):
    """Ends a command with one line. The text names the fault and how to correct it."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(text)
        self.code = code
