"""How the page's files are served, whatever they hold."""

from __future__ import annotations

import re

from support.edge import RunningEdge

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


async def test_page_loads_nothing_from_elsewhere(edge: RunningEdge) -> None:
    page = await edge.send("GET", "/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parts = (part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert dict(parts) == POLICY
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "aiohttp" not in page.headers["server"]


async def test_every_file_that_the_page_names_is_served(edge: RunningEdge) -> None:
    page = await edge.send("GET", "/")
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page.body.decode()):
        path = "/" + name.removeprefix("./").removeprefix("/")
        assert (await edge.send("GET", path)).status == 200, name


async def test_unchanged_page_is_not_sent_again(edge: RunningEdge) -> None:
    first = await edge.send("GET", "/")
    assert first.headers["cache-control"] == "no-cache"
    again = await edge.send("GET", "/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    head = await edge.send("HEAD", "/")
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", first.headers["etag"])
