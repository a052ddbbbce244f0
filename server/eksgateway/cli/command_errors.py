"""Prints the error that ends a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from eksgateway.cli.exit_codes import CommandError


@contextmanager
def print_errors() -> Iterator[None]:
    """Print errors that the user can correct without a traceback; any other error is a bug."""
    try:
        yield
    except CommandError as exc:
        _end(str(exc), exc.code)
    except UnicodeEncodeError:  # gRPC sends UTF-8
        _end("an argument is not text: write it in UTF-8", 1)
    except Exception as exc:
        from eksgateway.errors import GatewayError, StartError  # noqa: PLC0415  slow to import

        if isinstance(exc, StartError):
            _end(str(exc), 1)
        elif isinstance(exc, GatewayError):
            _end(f"{exc.message} {exc.detail}".rstrip(), 1)
        raise


def _end(text: str, code: int) -> NoReturn:
    from eksgateway.cli.notes import note  # noqa: PLC0415  slow to import

    logging.shutdown()  # writes what is logged, so that this message is the last one
    note(f"eksgateway: {text}")
    sys.exit(code)
