"""Reads a YAML mapping of known keys. Every fault is named with its line and how to correct it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import NoReturn

import yaml


class ContextFault(ValueError):
    """The text begins with the line, without the file's name."""


def compose(text: str) -> yaml.Node | None:
    """The document's root; None for an empty document. Raises ContextFault."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        raise ContextFault(f"{line}is not YAML: {exc.problem}") from exc
    except RecursionError as exc:
        raise ContextFault("is not YAML of this kind: it is nested too deeply") from exc
    except yaml.YAMLError as exc:  # a character that YAML forbids
        raise ContextFault(f"is not YAML: {exc}".splitlines()[0]) from exc


def members(node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Each key with its own node and its value's. ``what`` names the mapping in faults."""
    if not isinstance(node, yaml.MappingNode):
        refuse(node, f"{what} must be a mapping: write `key: value` lines below it")
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            refuse(key, f"a key of {what} is not text: write it in quotes")
        if key.value in seen:
            refuse(key, f"`{key.value}` stands twice in {what}: keep one")
        seen.add(key.value)
        yield key.value, key, value


def check_key(node: yaml.Node, key: str, known: Collection[str], what: str) -> None:
    if key not in known:
        near = difflib.get_close_matches(key, known, 1)
        remedy = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
        refuse(node, f"{what} has no setting `{key}`: {remedy}")


def text_of(node: yaml.Node, what: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.tag.endswith(":str"):
        written = getattr(node, "value", "")
        remedy = f'write "{written}"' if isinstance(written, str) and written else "write text after it"
        refuse(node, f"{what} must be text: {remedy}")
    if not node.value.strip():
        refuse(node, f"{what} is empty: set it, or remove the line")
    value: str = node.value
    return value


def boolean_of(node: yaml.Node, what: str) -> bool:
    is_tagged = isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool")
    value = yaml.safe_load(node.value) if is_tagged else None
    if not isinstance(value, bool):  # the tag may be written out, as in `!!bool maybe`
        refuse(node, f"{what} must be true or false, without quotes")
    return value


def texts_of(node: yaml.Node, what: str) -> list[str] | None:
    """The texts of a list; None for another node."""
    if not isinstance(node, yaml.SequenceNode):
        return None
    if not node.value:
        refuse(node, f"{what} is empty: set it, or remove the line")
    return [text_of(each, f"an item of {what}") for each in node.value]


def refuse(node: yaml.Node, fault: str) -> NoReturn:
    raise ContextFault(f"line {node.start_mark.line + 1}: {fault}")
