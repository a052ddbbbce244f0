"""Reads and validates request fields.

A denied caller must not learn whether its fields are well formed, so the policy is asked before.
"""

from __future__ import annotations

import re
from typing import Any, Final

from eksgateway.errors import RequestInvalid
from eksgateway.model import (
    ACCOUNT_ID_PATTERN,
    CLUSTER_NAME_PATTERN,
    REGION_PATTERN,
    ClusterRef,
    Justification,
    Target,
    UpdateRef,
)
from eksgateway.v1.update_pb2 import ClusterRef as ClusterRefProto

CLUSTER: Final = re.compile(CLUSTER_NAME_PATTERN)
UPDATE: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
ACCOUNT: Final = re.compile(ACCOUNT_ID_PATTERN)
REGION: Final = re.compile(REGION_PATTERN)
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# In characters. The patterns allow no more, except for a region.
NAME_LENGTH: Final = 100
ID_LENGTH: Final = 64
ACCOUNT_LENGTH: Final = 12
REGION_LENGTH: Final = 64
JUSTIFICATION_LENGTHS: Final = {"reason": 500, "ticket": 100}
# Refused in text: control characters, line and paragraph separators, characters that change the direction of
# the text around them, deprecated and interlinear formats, noncharacters, and tag characters (hidden ASCII).
# Other format characters are part of ordinary writing, as in emoji, Persian and Hebrew. `str.isprintable`
# would also refuse every character that is newer than this Python's Unicode tables.
_REFUSED: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\U000e0000-\U000e007f"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
# The one use of tag characters: flags of regions, such as Scotland's.
_FLAG: Final = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
_INVISIBLE: Final = re.compile(
    "[\\s\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2064\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0100-\U000e01ef]*"
)


def cluster_ref(proto: ClusterRefProto, home: Target) -> ClusterRef:
    """Not validated. The home target is the default."""
    return ClusterRef(
        account_id=proto.account_id or home.account_id, region=proto.region or home.region, name=proto.name
    )


def clip(value: str, max_length: int) -> str:
    """Cut a text for the policy and the denial log. A text that is too long stays too long."""
    return value[: max_length + 1]


def clip_cluster(cluster: ClusterRef) -> ClusterRef:
    return ClusterRef(
        account_id=clip(cluster.account_id, ACCOUNT_LENGTH),
        region=clip(cluster.region, REGION_LENGTH),
        name=clip(cluster.name, NAME_LENGTH),
    )


def justification(request: Any) -> Justification:
    """Clipped. Empty texts for requests without such fields."""
    lengths = JUSTIFICATION_LENGTHS.items()
    return Justification(**{name: clip(getattr(request, name, ""), length) for name, length in lengths})


def request_id_of(request: Any) -> str:
    """The request's ``request_id`` if it is well formed, else an empty string."""
    value = getattr(request, "request_id", "")
    return value if isinstance(value, str) and REQUEST_ID.fullmatch(value) else ""


class FieldViolations:
    """By the field's path."""

    def __init__(self) -> None:
        self.by_field: dict[str, str] = {}

    def add(self, path: str, description: str) -> None:
        self.by_field[path] = description

    def match(self, path: str, value: str, pattern: re.Pattern[str]) -> None:
        """The whole value must match."""
        if not pattern.fullmatch(value):
            must = f"must match {pattern.pattern}"
            self.add(path, must if value else f"is required; it {must}")

    def text(self, path: str, value: str, max_length: int) -> None:
        """The value must be one line of text in any script."""
        refused = _REFUSED.search(_FLAG.sub("", value))
        if len(value) > max_length:
            self.add(path, f"must have at most {max_length} characters; it has {len(value)}")
        elif refused:
            self.add(
                path,
                "must not contain line breaks, control characters or characters that change the direction"
                f" of text; it has U+{ord(refused.group()):04X}",
            )
        elif not value.isspace() and value and _INVISIBLE.fullmatch(value):
            self.add(path, "must contain a visible character")

    def between(self, path: str, value: int, least: int, most: int) -> None:
        """The range is closed."""
        if not least <= value <= most:
            self.add(path, f"must be between {least} and {most}")

    def cluster(self, cluster: ClusterRef) -> None:
        self.match("cluster.name", cluster.name, CLUSTER)
        self.match("cluster.account_id", cluster.account_id, ACCOUNT)
        self.match("cluster.region", cluster.region, REGION)
        self.text("cluster.region", cluster.region, REGION_LENGTH)

    def raise_if_any(self) -> None:
        """Raises RequestInvalid."""
        if self.by_field:
            raise RequestInvalid(violations=self.by_field)


def update_ref(request: Any, home: Target, *, id_required: bool = False) -> UpdateRef:
    """Raises RequestInvalid if any field of the request is invalid. ``id_required`` is for ``request_id``."""
    ref = UpdateRef(cluster_ref(request.cluster, home), request.update_id)
    violations = FieldViolations()
    violations.cluster(ref.cluster)
    violations.match("update_id", ref.update_id, UPDATE)
    for name, max_length in JUSTIFICATION_LENGTHS.items():
        violations.text(name, getattr(request, name, ""), max_length)
    request_id = getattr(request, "request_id", "")
    if request_id or id_required:
        violations.match("request_id", request_id, REQUEST_ID)
    violations.raise_if_any()
    return ref
