"""Chooses the proxy for a URL by HTTPS_PROXY, ALL_PROXY and NO_PROXY.

aiohttp's own ``trust_env`` also reads credentials from ~/.netrc, on the event loop, and sends requests for
loopback to the proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from eksgateway.addresses import is_loopback


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None for a direct connection. Raises ValueError for a proxy that is not an http or
    https URL; the text does not repeat it, because it may contain a password.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = _variable(environ, f"{parts.scheme}_proxy") or _variable(environ, "all_proxy")
    no_proxy = _variable(environ, "no_proxy").lower().split(",")
    if not proxy or is_loopback(host) or any(_matches(each.strip(), host, parts.port) for each in no_proxy):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in {"http", "https"} or urlsplit(proxy).hostname is None:
        raise ValueError(f"{parts.scheme.upper()}_PROXY is not an http or https URL with a host")
    return proxy


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _matches(entry: str, host: str, port: int | None) -> bool:
    """An entry is ``*``, a domain with its subdomains, an address, or a network."""
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # one of them is a name
        pass
    name, colon, only_port = entry.partition(":")
    if colon and only_port != str(port or 443):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
