"""Reads all pages of a list into one answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from eksgateway.cli.session import READ_S, Session

_Page = TypeVar("_Page", bound=Any)


async def read_pages(  # noqa: PLR0913, PLR0917  a call, and two conditions to stop
    session: Session,
    method: Any,
    request: Any,
    answer: type[_Page],
    timeout_s: float | None,
    enough: Callable[[_Page], bool] = lambda _: False,
) -> _Page:
    """All pages in one message, until ``enough``; then the token of the next page is in it.

    ``timeout_s`` covers all pages. Without one, each page has the time of a read.
    """
    end = time.monotonic() + timeout_s if timeout_s is not None else None
    found: _Page = answer()
    while True:
        left = READ_S if end is None else max(0.0, end - time.monotonic())
        page = await session.call(method, request, answer, left)
        found.MergeFrom(page)  # repeated fields are joined
        found.next_page_token = request.page_token = page.next_page_token
        if not page.next_page_token or enough(found):
            return found
