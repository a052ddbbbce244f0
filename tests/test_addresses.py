"""host:port."""

from __future__ import annotations

import pytest

from eksgateway.addresses import is_loopback, join_address, split_address


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535), ("gateway_1:0", "gateway_1", 0)],
)
def test_split_and_join_are_inverse(address: str, host: str, port: int) -> None:
    """With brackets around IPv6 alone."""
    assert split_address(address) == (host, port)
    assert join_address(host, port) == address


@pytest.mark.parametrize(
    "address", ["", "a", ":1", "a:", "a:65536", "a b:1", "::1:1", "[a]:1", "[::g]:1", "a:1\n", "http://a:1"]
)
def test_split_refuses_other_text(address: str) -> None:
    """Raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        split_address(address)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("localhost.corp", False)],
)
def test_is_loopback(host: str, *, loopback: bool) -> None:
    """A host name other than localhost is not resolved."""
    assert is_loopback(host) == loopback
