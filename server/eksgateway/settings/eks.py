"""Targets, and how boto3 calls EKS there."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from eksgateway.model import ACCOUNT_ID_PATTERN, REGION_PATTERN, Target
from eksgateway.settings.section import Section

_ROLE_ARN: Final = re.compile(
    rf"arn:aws[a-z-]*:iam::(?P<account>{ACCOUNT_ID_PATTERN}):role/[\w+=,.@/-]+", re.ASCII
)


def _check_url(value: str) -> str:
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or url.hostname is None:
        raise ValueError("write it as an http or https URL with a host")
    return value


_Url: TypeAlias = Annotated[str, AfterValidator(_check_url)]


class TargetSettings(Section):
    """Without ``role_arn``, the target is reached with the gateway's own credentials.

    The endpoints are for private endpoints and a simulated EKS.
    """

    account_id: Annotated[str, Field(pattern=f"^{ACCOUNT_ID_PATTERN}$")]
    region: Annotated[str, Field(pattern=f"^{REGION_PATTERN}$")]
    role_arn: str | None = None
    external_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@:/-]{2,1224}$")] | None = None
    endpoint_url: _Url | None = None
    sts_endpoint_url: _Url | None = None

    @property
    def target(self) -> Target:
        return Target(self.account_id, self.region)

    @model_validator(mode="after")
    def _check_role(self) -> Self:
        if self.role_arn is None:
            for name in ("external_id", "sts_endpoint_url"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is for assuming a role: set `role_arn` too, or remove it")
            return self
        match = _ROLE_ARN.fullmatch(self.role_arn)
        if match is None:
            raise ValueError("`role_arn` is no role's ARN, such as arn:aws:iam::111122223333:role/eksgateway")
        if match["account"] != self.account_id:
            raise ValueError(
                f"`role_arn` is in account {match['account']}, and `account_id` is {self.account_id}:"
                " a role reaches the clusters of its own account only"
            )
        return self


class EksSettings(Section):
    """The first target is the home target."""

    targets: Annotated[tuple[TargetSettings, ...], Field(min_length=1)]
    connect_timeout_s: PositiveFloat = 2
    read_timeout_s: PositiveFloat = 5  # from the request to the last byte of the answer
    cancel_read_timeout_s: PositiveFloat = 20
    calls_per_s: PositiveFloat = 5  # to each target
    threads: PositiveInt = 16
    waiting: PositiveInt = 64
    decision_max_age_s: PositiveFloat = 10

    @property
    def home(self) -> Target:
        return self.targets[0].target

    @model_validator(mode="after")
    def _check_distinct(self) -> Self:
        seen: set[Target] = set()
        for each in self.targets:
            if each.target in seen:
                raise ValueError(f"`targets` names {each.account_id} in {each.region} twice")
            seen.add(each.target)
        own = {each.account_id for each in self.targets if each.role_arn is None}
        if len(own) > 1:
            raise ValueError(
                f"`targets` has no `role_arn` in the accounts {', '.join(sorted(own))}: the gateway's own"
                " credentials belong to one account, so set it for the others"
            )
        return self
