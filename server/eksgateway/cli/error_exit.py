"""Ends a command with a message in place of a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print errors that the user can correct without a traceback; any other error is a bug."""
    from eksgateway.errors import GatewayError, StartError  # noqa: PLC0415

    try:
        yield
    except (StartError, GatewayError) as exc:
        logging.shutdown()  # writes what is logged, so that this message is the last one
        text = exc if isinstance(exc, StartError) else f"{exc.message} {exc.detail}".rstrip()
        sys.exit(f"eksgateway: {text}")


@contextmanager
def client_errors() -> Iterator[None]:
    """As ``clear_errors``, for commands that call a gateway."""
    with clear_errors():
        try:
            yield
        except KeyboardInterrupt:
            sys.exit(130)
        except UnicodeEncodeError:
            sys.exit("eksgateway: an argument is not text: write it in UTF-8")
