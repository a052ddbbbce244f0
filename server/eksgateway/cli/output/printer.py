"""Prints results to standard output in the format that was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from eksgateway.cli.output.tables import Fields, Table, field_lines, table_lines
from eksgateway.cli.output.terminal import print_lines, terminal_width
from eksgateway.cli.shared_options import Format


def print_result(form: Format, message: Message, shown: Table | Fields | str, names: Sequence[str]) -> None:
    """One answer. JSON and YAML are the API's own; ``shown`` and ``names`` are for the other formats."""
    if form is Format.JSON:
        print(json.dumps(MessageToDict(message), indent=2), flush=True)
    elif form is Format.YAML:
        print_yaml(message)
    elif form is Format.NAME:
        print_lines(names)
    elif isinstance(shown, str):
        print_lines([shown])
    elif isinstance(shown, Fields):
        print_lines(field_lines(shown, terminal_width()))
    else:
        print_table(shown)


def print_table(table: Table) -> None:
    """Nothing for a table without rows."""
    if table.rows:
        print_lines(table_lines(table, terminal_width()), header=True)


def print_message(form: Format, message: Message) -> None:
    """One message of a stream, as a line of JSON or as a YAML document."""
    if form is Format.JSON:
        print(json.dumps(MessageToDict(message)), flush=True)
    else:
        print_yaml(message, start="---\n")


def print_yaml(message: Message, start: str = "") -> None:
    import yaml  # noqa: PLC0415  slow to import

    text = yaml.safe_dump(MessageToDict(message), sort_keys=False)
    sys.stdout.write(start + text)
    sys.stdout.flush()
