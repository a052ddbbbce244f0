"""Reads and checks request fields, by full match; every fault is named, not only the first.

Checked only after the policy admitted the caller at stage request: a refused caller must not
learn whether what it wrote was well formed.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from eksgateway.errors import RequestInvalid
from eksgateway.model import ACCOUNT_ID_PATTERN, REGION_PATTERN, ClusterRef, Justification, Target, UpdateRef
from eksgateway.v1.update_pb2 import ClusterRef as ClusterRefProto

CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")
UPDATE = re.compile(r"[0-9A-Za-z-]{1,64}")
ACCOUNT = re.compile(ACCOUNT_ID_PATTERN)
REGION = re.compile(REGION_PATTERN)
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# In characters. The patterns above have no longer matches, but for a region.
NAME_LENGTH = 100
ID_LENGTH = 64
ACCOUNT_LENGTH = 12
REGION_LENGTH = 64
JUSTIFICATION_LENGTHS = {"reason": 500, "ticket": 100}
# Refused in text: controls, line and paragraph separators, what changes the direction of the text around
# it (embeddings, overrides, isolates), deprecated and interlinear formats, noncharacters, and tag characters
# (which write hidden ASCII). Other format characters are part of ordinary writing: ZERO WIDTH JOINER of
# emoji, ZERO WIDTH NON-JOINER of Persian, direction marks of Hebrew. An allowlist by `str.isprintable` would
# also refuse every character that is newer than this Python's Unicode tables.
_REFUSED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\U000e0000-\U000e007f"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
# The only use that tag characters have: flags of regions, such as Scotland's.
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_INVISIBLE = re.compile(
    "[\\s\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0100-\U000e01ef]*"
)


def cluster_ref(proto: ClusterRefProto, home: Target) -> ClusterRef:
    """The cluster as named, unchecked, with the home target where nothing was said."""
    return ClusterRef(
        account_id=proto.account_id or home.account_id,
        region=proto.region or home.region,
        name=proto.name,
    )


def clip(value: str, longest: int) -> str:
    """As much of a text as is told to the policy and kept of a denial: what is too long stays too long."""
    return value[: longest + 1]


def clip_cluster(cluster: ClusterRef) -> ClusterRef:
    """A cluster's three names, clipped."""
    return ClusterRef(
        account_id=clip(cluster.account_id, ACCOUNT_LENGTH),
        region=clip(cluster.region, REGION_LENGTH),
        name=clip(cluster.name, NAME_LENGTH),
    )


def justification(request: Any) -> Justification:
    """The texts of a request that say why; a kind of request that has none gives empty ones."""
    return Justification(**{name: getattr(request, name, "") for name in JUSTIFICATION_LENGTHS})


def clip_justification(given: Justification) -> Justification:
    """Every text of it, clipped."""
    return Justification(
        **{name: clip(text, JUSTIFICATION_LENGTHS[name]) for name, text in asdict(given).items()}
    )


def request_id_of(request: Any) -> str:
    """A well-formed ``request_id`` of the request, else nothing."""
    value = getattr(request, "request_id", "")
    return value if isinstance(value, str) and REQUEST_ID.fullmatch(value) else ""


class Fields:
    """Collects faults; ``done`` raises RequestInvalid with all of them."""

    def __init__(self) -> None:
        self.faults: dict[str, str] = {}

    def match(self, path: str, value: str, pattern: re.Pattern[str]) -> None:
        """The whole value must match."""
        if not pattern.fullmatch(value):
            self.faults[path] = (
                f"must match {pattern.pattern}" if value else f"is required; it must match {pattern.pattern}"
            )

    def text(self, path: str, value: str, longest: int) -> None:
        """One line of text in any script, of at most ``longest`` characters."""
        refused = _REFUSED.search(_FLAG.sub("", value))
        if len(value) > longest:
            self.faults[path] = f"must have at most {longest} characters; it has {len(value)}"
        elif refused:
            self.faults[path] = (
                "must not contain line breaks, control characters or characters that change the direction"
                f" of text; it has U+{ord(refused.group()):04X}"
            )
        elif not value.isspace() and value and _INVISIBLE.fullmatch(value):
            self.faults[path] = "must contain a visible character"

    def between(self, path: str, value: int, least: int, most: int) -> None:
        """A number in a closed range."""
        if not least <= value <= most:
            self.faults[path] = f"must be between {least} and {most}"

    def done(self) -> None:
        if self.faults:
            raise RequestInvalid(violations=self.faults)


def check_cluster(fields: Fields, cluster: ClusterRef) -> None:
    """A cluster's three names."""
    fields.match("cluster.name", cluster.name, CLUSTER)
    fields.match("cluster.account_id", cluster.account_id, ACCOUNT)
    fields.match("cluster.region", cluster.region, REGION)
    fields.text("cluster.region", cluster.region, REGION_LENGTH)


def update_ref(request: Any, home: Target, *, id_required: bool = False) -> UpdateRef:
    """The update that a request names. Raises RequestInvalid for whatever the request has malformed,
    and where ``id_required``, for a ``request_id`` that it does not have.
    """
    ref = UpdateRef(cluster_ref(request.cluster, home), request.update_id)
    checked = Fields()
    check_cluster(checked, ref.cluster)
    checked.match("update_id", ref.update_id, UPDATE)
    for name, longest in JUSTIFICATION_LENGTHS.items():
        checked.text(name, getattr(request, name, ""), longest)
    request_id = getattr(request, "request_id", "")
    if request_id or id_required:
        checked.match("request_id", request_id, REQUEST_ID)
    checked.done()
    return ref
