"""The gateway's settings. AWS credentials are not settings: boto3's default chain finds them."""

from eksgateway.errors import SettingsError
from eksgateway.settings.eks import EksSettings, TargetSettings
from eksgateway.settings.gateway import (
    LedgerSettings,
    LimitSettings,
    MetricsSettings,
    Settings,
    WatchSettings,
)
from eksgateway.settings.http import HttpSettings
from eksgateway.settings.identity import (
    ALGORITHMS,
    CLAIM_NAME_PATTERN,
    ISSUER_NAME_PATTERN,
    ClaimName,
    IdentitySettings,
    IssuerSettings,
    JwtSettings,
)
from eksgateway.settings.listener import ListenerSettings, TlsSettings
from eksgateway.settings.loading import load
from eksgateway.settings.policy import OpaPolicySettings, OpaSettings, PolicySettings, WasmPolicySettings
from eksgateway.settings.postgres_url import PostgresLocation

__all__ = [
    "ALGORITHMS",
    "CLAIM_NAME_PATTERN",
    "ISSUER_NAME_PATTERN",
    "ClaimName",
    "EksSettings",
    "HttpSettings",
    "IdentitySettings",
    "IssuerSettings",
    "JwtSettings",
    "LedgerSettings",
    "LimitSettings",
    "ListenerSettings",
    "MetricsSettings",
    "OpaPolicySettings",
    "OpaSettings",
    "PolicySettings",
    "PostgresLocation",
    "Settings",
    "SettingsError",
    "TargetSettings",
    "TlsSettings",
    "WasmPolicySettings",
    "WatchSettings",
    "load",
]
