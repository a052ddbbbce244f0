"""Writes the table of error reasons, from the comments in error_reason.proto (`make protos`).

It is written to clients/testing/reasons.json, for the tests of each client, and to docs/clients.md. An
argument is another folder to write both to.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO: Final = ROOT / "protos/eksgateway/v1/error_reason.proto"
OUTPUTS: Final = ("clients/testing/reasons.json", "docs/clients.md")

_VALUE: Final = re.compile(r"((?:  //.*\n)+)  ERROR_REASON_(\w+) = ([1-9]\d*);")
_RETRY: Final = re.compile(
    r"Retry: (?:(?P<no>no)|(?P<yes>yes)|(?P<once>once, with another token)"
    r"|(?P<at_once>at once, without the resume token))(?:, with the same request_id)?"
    r"(?P<pause>, after RetryInfo(?P<sometimes> where there is one)?)?\.(?: (?P<advice>.+))?"
)
_RETRIES: Final = {"no": "no", "yes": "yes", "once": "with_new_token", "at_once": "without_resume_token"}
_SHOWN: Final = {
    "no": "no",
    "yes": "**yes**",
    "with_new_token": "once, with another token",
    "without_resume_token": "at once, without the token",
}
_PAUSES: Final = {
    "always": "RetryInfo + back-off",
    "sometimes": "RetryInfo, if any, + back-off",
    "never": "back-off",
}
_BEGIN: Final = "<!-- Written by `make protos` from error_reason.proto. -->\n"
_END: Final = "<!-- End of the table. -->\n"


@dataclass(frozen=True)
class Reason:
    """``retry`` is yes, no, with_new_token or without_resume_token.

    ``retry_info`` is always, sometimes or never: whether the error has a google.rpc.RetryInfo.
    """

    reason: str
    code: str
    retry: str
    retry_info: str
    advice: str

    @property
    def row(self) -> str:
        pause = "none" if self.retry in ("no", "without_resume_token") else _PAUSES[self.retry_info]
        token = "dropped" if self.retry == "without_resume_token" else "kept"
        return f"| {self.reason} | {self.code} | {_SHOWN[self.retry]} | {pause} | {token} | {self.advice} |"


def parse_reasons(proto: str) -> list[Reason]:
    return [_parse(comment, reason) for comment, reason, _ in _VALUE.findall(proto)]


def _parse(comment: str, reason: str) -> Reason:
    lines = [line.strip().removeprefix("//").strip() for line in comment.splitlines()]
    match = _RETRY.fullmatch(lines[-1])
    if match is None:
        sys.exit(f"{reason}: the last line of its comment must be as `Retry: yes, after RetryInfo. Advice.`")
    retry = next(_RETRIES[name] for name in _RETRIES if match[name])
    retry_info = "sometimes" if match["sometimes"] else "always" if match["pause"] else "never"
    return Reason(reason, lines[0].partition(".")[0], retry, retry_info, match["advice"] or "")


def write(out: Path) -> None:
    reasons = parse_reasons(PROTO.read_text())
    as_json, page = (out / name for name in OUTPUTS)
    head, _, rest = (ROOT / OUTPUTS[1]).read_text().partition(_BEGIN)
    rows = [
        "| reason | status | retry | pause | resume token | what to do |",
        "|---|---|---|---|---|---|",
        *(reason.row for reason in reasons),
    ]
    for path in (as_json, page):
        path.parent.mkdir(parents=True, exist_ok=True)
    as_json.write_text(json.dumps([asdict(each) for each in reasons], indent=1) + "\n")
    page.write_text(head + _BEGIN + "\n".join(rows) + "\n" + _END + rest.partition(_END)[2])


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
