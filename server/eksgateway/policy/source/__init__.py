"""Reads and checks the policy data that operators write."""

from eksgateway.policy.source.content import Content, count_entries
from eksgateway.policy.source.faults import PolicyDataError
from eksgateway.policy.source.files import MAX_BYTES, SourceFile, read_sources
from eksgateway.policy.source.parsing import load_content, parse_sources, parse_with_sets

__all__ = [
    "MAX_BYTES",
    "Content",
    "PolicyDataError",
    "SourceFile",
    "count_entries",
    "load_content",
    "parse_sources",
    "parse_with_sets",
    "read_sources",
]
