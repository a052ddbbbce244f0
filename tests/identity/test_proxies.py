"""Choosing the proxy for a URL by the environment."""

from __future__ import annotations

import pytest

from eksgateway.identity.proxies import proxy_for

URL = "https://idp.corp.example/keys"
PROXY = "http://proxy.corp.example:3128"
TABLE: dict[str, tuple[dict[str, str], str, str | None]] = {
    "no proxy": ({}, URL, None),
    "for https": ({"HTTPS_PROXY": PROXY}, URL, PROXY),
    "in lower case": ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, URL, PROXY),
    "for http only": ({"HTTP_PROXY": PROXY}, URL, None),
    "for all": ({"ALL_PROXY": PROXY}, URL, PROXY),
    "empty": ({"HTTPS_PROXY": ""}, URL, None),
    "without a scheme": ({"HTTPS_PROXY": "proxy.corp.example:3128"}, URL, PROXY),
    "with a password": ({"HTTPS_PROXY": "https://me:secret@proxy:1"}, URL, "https://me:secret@proxy:1"),
    **{
        f"loopback {host}": ({"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}, f"{scheme}://{host}/keys", None)
        for scheme, host in (
            ("https", "127.0.0.1:8443"), ("http", "localhost:80"), ("https", "[::1]"), ("http", "127.9.9.9")
        )
    },
    **{
        f"NO_PROXY={no_proxy} for {host}": (
            {"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy},
            f"https://{host}/keys",
            PROXY if proxied else None,
        )
        for no_proxy, host, proxied in (
            ("*", "idp.corp.example", False),
            ("idp.corp.example", "idp.corp.example", False),
            ("IDP.corp.Example", "idp.CORP.example", False),
            ("corp.example", "idp.corp.example", False),
            (".corp.example", "idp.corp.example", False),
            ("*.corp.example", "idp.corp.example", False),
            ("a.example, .svc ,b.example", "kubernetes.default.svc", False),
            ("corp.example:443", "idp.corp.example", False),
            ("corp.example:8443", "idp.corp.example", True),
            ("corp.example:8443", "idp.corp.example:8443", False),
            ("orp.example", "idp.corp.example", True),
            ("corp.example", "notcorp.example", True),
            ("10.0.0.0/8", "10.96.0.1", False),
            ("10.0.0.0/8", "11.96.0.1", True),
            ("10.96.0.1", "10.96.0.1", False),
            ("fd00::/8", "[fd00::1]", False),
            ("10.0.0.0/8", "idp.corp.example", True),
            (",", "idp.corp.example", True),
            ("", "idp.corp.example", True),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize(("environ", "url", "proxy"), TABLE.values(), ids=TABLE)
def test_the_environment_names_the_proxy(environ: dict[str, str], url: str, proxy: str | None) -> None:
    """As in curl and Go, except that loopback is always direct."""
    assert proxy_for(url, environ) == proxy


@pytest.mark.parametrize("proxy", ["socks5://me:secret@proxy:1080", "http://", "://secret"])
def test_unusable_proxy_is_an_error_without_its_url(proxy: str) -> None:
    """Connecting directly would bypass what the operator configured."""
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY is not") as refused:
        proxy_for(URL, {"HTTPS_PROXY": proxy})
    assert "secret" not in str(refused.value)
