"""Keys, bodies and failures of looks as texts of the table ``looks``. Damaged texts are recognised."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from eksgateway.errors import EksRefused, record, replay
from eksgateway.ledger import codec
from eksgateway.ledger.codec import CodecError
from eksgateway.model import ClusterFacts, ClusterRef, ErrorRecord, Update, UpdateRef

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LookKind(Generic[K, V]):
    """One kind of resource. A key's text is ``prefix`` and the reference."""

    prefix: str
    value: type[V]
    to_key: Callable[[list[str]], K]
    belongs: Callable[[V, K], bool]

    def key_text(self, key: K) -> str:
        return f"{self.prefix}{key}"

    def read_key(self, text: str) -> K | None:
        """None for the text of another kind."""
        if not text.startswith(self.prefix):
            return None
        try:
            return self.to_key(text.removeprefix(self.prefix).split("/"))
        except ValueError:
            return None

    def read_body(self, text: str, key: K) -> V:
        """Raises CodecError for a damaged text, and for one of another resource."""
        value = codec.decode(self.value, text)
        if not _is_unicode(text) or not self.belongs(value, key):
            raise CodecError(f"not {key}")
        return value


def _to_cluster(parts: list[str]) -> ClusterRef:
    account_id, region, name = parts
    return ClusterRef(account_id, region, name)


def _to_update(parts: list[str]) -> UpdateRef:
    return UpdateRef(_to_cluster(parts[:-1]), parts[-1])


def _is_of_cluster(facts: ClusterFacts, ref: ClusterRef) -> bool:
    texts = {*facts.tags, *facts.tags.values()}
    return facts.name == ref.name and all(isinstance(text, str) for text in texts)


CLUSTERS: Final = LookKind("c:", ClusterFacts, _to_cluster, _is_of_cluster)
UPDATES: Final = LookKind("u:", Update, _to_update, lambda update, ref: update.id == ref.update_id)


def write_body(value: object) -> str:
    """Equal for equal values."""
    return codec.encode(value)


def write_failure(error: EksRefused) -> str:
    return codec.encode(record(error))


def read_failure(text: str) -> EksRefused:
    """Raises CodecError."""
    error = replay(codec.decode(ErrorRecord, text))
    if not isinstance(error, EksRefused):
        raise CodecError("not a refusal of EKS")
    return error


def _is_unicode(text: str) -> bool:
    """JSON allows a lone surrogate, which policy, logs and protobuf do not."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
