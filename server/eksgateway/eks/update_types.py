"""The types of updates that EKS has."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from botocore.exceptions import DataNotFoundError
from botocore.loaders import Loader


@cache
def read_update_types() -> frozenset[str]:
    """Those in botocore's service model of EKS. Empty without one."""
    try:
        model: Any = Loader().load_service_model("eks", "service-2")
    except DataNotFoundError:
        return frozenset()
    shapes = cast("dict[str, Any]", model["shapes"])
    return frozenset(shapes["UpdateType"]["enum"])
