"""Verifies that DescribeCluster answered about the requested cluster."""

from __future__ import annotations

import re
from typing import Final

from eksgateway.errors import TargetMismatch
from eksgateway.model import ClusterFacts, ClusterRef

_ARN: Final = re.compile(r"arn:aws[a-z-]*:eks:(?P<region>[^:]*):(?P<account>[^:]*):cluster/(?P<name>.*)")


def verify_arn(facts: ClusterFacts, ref: ClusterRef) -> ClusterFacts:
    """Return ``facts`` if their ARN names exactly this account, region and cluster; raises TargetMismatch."""
    match = _ARN.fullmatch(facts.arn)
    if match is None or match.groups() != (ref.region, ref.account_id, ref.name):
        raise TargetMismatch(detail=f"asked for {ref}, reached {facts.arn}")
    return facts
