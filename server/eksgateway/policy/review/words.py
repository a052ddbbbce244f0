"""The texts that patterns match.

A word of a pattern has a private character in place of each star. Another pattern that matches the word
matches all that the first one matches, so patterns are compared by words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from eksgateway.policy.patterns import matches

FREE: Final = "\ue000"  # for private use in Unicode: no name of AWS or of an issuer has it
_DEEP: Final = f"{FREE}/" * 64 + FREE  # deeper than patterns with single stars reach
_MAX_VISITS: Final = 8  # of one state: each may give another word
_MAX_WORDS: Final = 16
_MAX_STEPS: Final = 5000

_Token: TypeAlias = str  # a character, "*" or "**"
_Positions: TypeAlias = tuple[int, ...]


class TooManyStates(Exception):
    """The search for a word was given up: there may be one."""


def word_of(pattern: str) -> str:
    if pattern.endswith("**"):
        return pattern.removesuffix("**") + _DEEP
    return pattern.replace("*", FREE)


def is_covered(pattern: str, by: Sequence[str]) -> bool:
    """Whether these patterns together match each text that ``pattern`` matches: one of them has to."""
    if pattern in by:
        return True
    word = word_of(pattern)
    return any("*" in wider and matches(wider, word) for wider in by)


def overlap(one: str, other: str) -> bool:
    """Whether some text matches both, or may match."""
    if "*" not in one or "*" not in other:
        return matches(one, other) if "*" in one else matches(other, one)
    try:
        return next(find_words((one, other)), None) is not None
    except TooManyStates:
        return True


def find_words(patterns: Sequence[str]) -> Iterator[str]:
    """Words that all the patterns match, one for each order of their parts, up to ``_MAX_WORDS``.

    ``**`` may end a pattern without a slash before it. Raises TooManyStates.
    """
    patterns = tuple(dict.fromkeys(patterns))
    if len(patterns) == 1:
        yield word_of(patterns[0])
        return
    found: set[str] = set()
    for word in _walk([_tokens(each) for each in patterns]):
        if word not in found:
            found.add(word)
            yield word
        if len(found) == _MAX_WORDS:
            return


def _tokens(pattern: str) -> list[_Token]:
    if pattern.endswith("**"):
        return [*pattern.removesuffix("**"), "**"]
    return [*pattern]


def _walk(patterns: list[list[_Token]]) -> Iterator[str]:
    """Follow all patterns at once, depth first."""
    visits: Counter[tuple[_Positions, bool]] = Counter()
    pending = [((0,) * len(patterns), "", False)]  # positions, word, whether stars were replaced here
    steps = 0
    while pending:
        positions, word, is_free = pending.pop()
        visits[positions, is_free] += 1
        if visits[positions, is_free] > _MAX_VISITS:
            continue
        steps += 1
        if steps > _MAX_STEPS:
            raise TooManyStates
        heads = [each[at] if at < len(each) else "" for each, at in zip(patterns, positions, strict=True)]
        if not all(heads):  # one pattern has ended
            if all(_is_stars(each[at:]) for each, at in zip(patterns, positions, strict=True)):
                yield word
        elif not is_free and all(head in ("*", "**") for head in heads):
            pending.append((positions, word + (_DEEP if set(heads) == {"**"} else FREE), True))
        else:
            pending += ((following, word, False) for following in _skip_stars(positions, heads))
            pending += ((following, word + char, False) for char, following in _consume(positions, heads))


def _is_stars(tokens: list[_Token]) -> bool:
    return all(token in ("*", "**") for token in tokens)


def _skip_stars(positions: _Positions, heads: list[_Token]) -> Iterator[_Positions]:
    for index, head in enumerate(heads):
        if head in ("*", "**"):
            yield (*positions[:index], positions[index] + 1, *positions[index + 1 :])


def _consume(positions: _Positions, heads: list[_Token]) -> Iterator[tuple[str, _Positions]]:
    """The one character that all can take, and the positions after it."""
    chars = {head for head in heads if head not in ("*", "**")}
    if len(chars) != 1 or "" in chars:
        return
    (char,) = chars
    if char == "/" and "*" in heads:
        return
    yield char, tuple(at + (head == char) for at, head in zip(positions, heads, strict=True))
