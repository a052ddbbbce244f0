"""Strict YAML: values, and the refusal of what two readers could understand differently."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eksgateway.strict_yaml import MAX_DEPTH, PARSER, Unquoted, read_yaml

# PyYAML has both where it was built with libyaml.
PARSERS = pytest.mark.parametrize("parser", [yaml.CSafeLoader, yaml.SafeLoader], ids=["libyaml", "python"])

VALUES: dict[str, tuple[str, Any]] = {
    "block": ("a:\n  - b: c\n    d: [e, f]\n  - {g: h}\n", {"a": [{"b": "c", "d": ["e", "f"]}, {"g": "h"}]}),
    "quoted numbers": (
        "a: ['1', \"on\", '2026-12-20', '', \"~\"]",
        {"a": ["1", "on", "2026-12-20", "", "~"]},
    ),
    "texts that begin like numbers": (
        "a: [1.2.3, 10-prod, 0xG, +, -a, _1, .b, 06:00, y, n]",
        {"a": ["1.2.3", "10-prod", "0xG", "+", "-a", "_1", ".b", "06:00", "y", "n"]},
    ),
    "nulls": ("a: [~, null, NULL]\nb:\n", {"a": [None, None, None], "b": None}),
    "blocks of text": ("a: |\n  1\n  2\nb: >\n  3\n  4\n", {"a": "1\n2\n", "b": "3 4\n"}),
    "tagged as text": (
        "a: !!str 012\nb: !!seq [c]\nd: !!map {e: f}",
        {"a": "012", "b": ["c"], "d": {"e": "f"}},
    ),
    "byte order mark": ("\ufeffa: b", {"a": "b"}),
    "lines of Windows": ("a: b\r\nc:\r\n  - d\r\n", {"a": "b", "c": ["d"]}),
    "markers of the document": ("%YAML 1.1\n---\na: b\n...\n", {"a": "b"}),
    "empty": ("# only a comment\n", None),
    "alias": ("a: &x [b]\nc: *x", {"a": ["b"], "c": ["b"]}),
    "alias of a key": ("&x a: b\nc: *x", {"a": "b", "c": "a"}),
    "alias as a key": ("a: &x b\n*x : c", {"a": "b", "b": "c"}),
    "anchor set twice": ("a: &x b\nc: &x d\ne: *x", {"a": "b", "c": "d", "e": "d"}),
    "anchor set again within its value": ("a: &x {b: &x c}\nd: *x", {"a": {"b": "c"}, "d": "c"}),
    "merge": (
        "a: &x {b: c, d: e}\nf: {<<: *x, d: own}",
        {"a": {"b": "c", "d": "e"}, "f": {"b": "c", "d": "own"}},
    ),
    "merge after the key that overrides it": (
        "a: &x {d: e}\nf: {d: own, <<: *x}",
        {"a": {"d": "e"}, "f": {"d": "own"}},
    ),
    "merge of a list, of which the first wins": (
        "a: &x {b: 'x'}\nc: &z {b: 'z', d: 'z'}\ne: {<<: [*x, *z]}",
        {"a": {"b": "x"}, "c": {"b": "z", "d": "z"}, "e": {"b": "x", "d": "z"}},
    ),
    "merge of a merge": (
        "a: &x {b: c}\nd: &z {<<: *x, e: f}\ng: {<<: *z}",
        {
            "a": {"b": "c"},
            "d": {"b": "c", "e": "f"},
            "g": {"b": "c", "e": "f"},
        },
    ),
    "merge key in quotes": ("a: {'<<': b}\nc: <<", {"a": {"<<": "b"}, "c": "<<"}),
}


@PARSERS
@pytest.mark.parametrize(("text", "expected"), VALUES.values(), ids=VALUES.keys())
def test_texts_lists_and_mappings_are_read(text: str, expected: Any, parser: Any) -> None:
    assert read_yaml(text, parser) == expected


NO_TEXTS = {
    "a number": "1 -1 +1 0 012 089 0x1F 0X1F 0o14 0b1 1_000 1.5 .5 +.5 5. 1e3 1E-3 .inf .NaN 22:00 1:20:30.1",
    "a boolean": "yes Yes NO on On OFF true True FALSE",
    "a date": "2026-12-20 2026-12-20T00:00:00Z 2001-12-14t21:59:43.10-05:00",
}


@PARSERS
@pytest.mark.parametrize(("kind", "texts"), NO_TEXTS.items(), ids=NO_TEXTS.keys())
def test_scalars_that_a_reader_takes_for_no_text_are_marked(kind: str, texts: str, parser: Any) -> None:
    for text in texts.split():
        assert read_yaml(f"# first line\na: {text}", parser) == {"a": Unquoted(text, kind, "line 2")}


FAULTS: dict[str, tuple[str, str]] = {
    "key twice": ("a: b\nc: d\na: e", "line 3, column 1: the key 'a' stands twice in one mapping"),
    "key twice in a merged mapping": ("a: &x {b: c, b: d}", "line 1, column 14: the key 'b' stands twice"),
    "number as a key": (
        "a:\n  5: b",
        'line 2, column 3: the key 5 without quotes is a number; write it as text: "5"',
    ),
    "boolean as a key": (
        "on: b",
        'line 1, column 1: the key on without quotes is a boolean; write it as text: "on"',
    ),
    "nothing as a key": ("~: b", "line 1, column 1: a key must be text"),
    "list as a key": ("? [a]\n: b", "line 1, column 3: a key must be text"),
    "alias of a list as a key": ("a: &x [b]\n*x : c", "line 2, column 1: a key must be text"),
    "tag": ("a: !!int '5'", "line 1, column 4: the tag 'tag:yaml.org,2002:int' is not supported"),
    "own tag": ("a: !x y", "line 1, column 4: the tag '!x' is not supported"),
    "tag without a name": ("a: ! 12", "line 1, column 4: the tag '!' is not supported"),
    "tag with a line break": ("a: !x%0Ay z", r"line 1, column 4: the tag '!x\ny' is not supported"),
    "Python's tag": (
        "a: !!python/name:os.system",
        "the tag 'tag:yaml.org,2002:python/name:os.system' is not",
    ),
    "unknown alias": ("a: *x\nb: &x c", "line 1, column 4: the alias *x has no anchor before it; quote it"),
    "alias in its own anchor": (
        "a: &x [b, *x]",
        "line 1, column 11: the alias *x stands inside its own anchor",
    ),
    "alias in the newer anchor of its name": (
        "a: &x b\nc: &x {d: *x}",
        "line 2, column 11: the alias *x stands in",
    ),
    "merge of a list": ("a: &x [b]\nc: {<<: *x}", "line 2, column 9: the value of << must be a mapping"),
    "merge of an alias of a list": (
        "a: &x [{b: c}]\nd: {<<: *x}",
        "line 2, column 9: the value of << must be",
    ),
    "merge of a text": ("a: {<<: b}", "line 1, column 9: the value of << must be a mapping"),
    "merge twice": ("a: &x {b: c}\nd: {<<: *x, <<: *x}", "line 2, column 13: the key << stands twice"),
    "second document": ("a: b\n---\nc: d", "line 2, column 1: a second document begins"),
    "tab": ("a:\n\t- b", "line 2, column 1: is not YAML: found character"),
    "cut off": ("a: [b", "is not YAML: "),
    "text and mapping": ("a: b: c", "line 1, column 5: is not YAML: mapping values are not allowed"),
    "control character": ("a: \x00", "is not YAML: "),
    "another version": (
        "%YAML 2.0\n---\na: b",
        "line 1, column 1: is not YAML: found incompatible YAML document",
    ),
}


@PARSERS
@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_reported_with_line_and_column(text: str, message: str, parser: Any) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_yaml(text, parser)
    assert message in str(caught.value)


HINTS = {
    "tab": ("a:\n\t- b", "; indent with spaces, not with tabs"),
    "tab after a text": ("a:\n  - b\n\t- c", "; indent with spaces, not with tabs"),
    "star alone": ("a: [*]", "; quote text that begins with *"),
    "two stars": ("a: [*-prod-*]", "; quote text that begins with *"),
    "percent": ("ä: %x", "; quote text that begins with %"),
}


@PARSERS
@pytest.mark.parametrize(("text", "hint"), HINTS.values(), ids=HINTS.keys())
def test_usual_mistakes_are_refused_with_what_to_write(text: str, hint: str, parser: Any) -> None:
    with pytest.raises(ValueError, match="is not YAML: ") as caught:
        read_yaml(text, parser)
    assert str(caught.value).endswith(hint)


@PARSERS
@pytest.mark.parametrize("begin", ["[", "{a: ", "- ", "? "], ids=repr)
def test_endless_nesting_is_refused(begin: str, parser: Any) -> None:
    """CSafeLoader ends the process at this depth."""
    with pytest.raises(ValueError, match=r"line 1, column \d+: (is nested deeper than|a key must be text)"):
        read_yaml(begin * 50_000, parser)
    ends = {"[": "]", "{a: ": "}"}.get(begin, "")
    if ends:
        assert read_yaml(begin * MAX_DEPTH + ends * MAX_DEPTH, parser)


def test_aliases_that_multiply_are_refused() -> None:
    """Nine lines would stand for a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ValueError, match=r"line 6, column \d+: aliases stand for more than 200,000 values"):
        read_yaml("\n".join(lines))


def test_values_of_aliases_are_shared() -> None:
    """Else a file within the limits could fill the memory."""
    value = read_yaml("a: &x [b]\nc: *x")
    assert value["a"] is value["c"]


def test_libyaml_is_used_where_there_is_one() -> None:
    assert PARSER is yaml.CSafeLoader


@given(st.text("abn1-+.:_ \t\n'\"[]{},#&*!|>%~?eExX0", max_size=30))
def test_text_is_text_to_pyyaml_too(text: str) -> None:
    """And all that is read is read by PyYAML with the same value."""
    try:
        value, expected = read_yaml(text), yaml.load(text, yaml.CSafeLoader)
    except ValueError:  # PyYAML's too, of `0b_`
        return
    assert _equal(value, expected), text


def _equal(value: Any, expected: Any) -> bool:
    match value:
        case Unquoted():
            return isinstance(expected, int | float | dt.date) or expected == value.text
        case dict():
            return list(value) == list(expected) and all(_equal(value[key], expected[key]) for key in value)
        case list():
            return len(value) == len(expected) and all(map(_equal, value, expected))
    return bool(value == expected)
