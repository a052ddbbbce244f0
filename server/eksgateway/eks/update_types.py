"""The types of updates that EKS has."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from botocore.loaders import Loader


@cache
def read_update_types() -> frozenset[str]:
    """Those in botocore's service model of EKS, which comes with boto3."""
    model: Any = Loader().load_service_model("eks", "service-2")
    shapes = cast("dict[str, Any]", model["shapes"])
    return frozenset(shapes["UpdateType"]["enum"])
