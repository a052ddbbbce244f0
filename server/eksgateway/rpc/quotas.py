"""How many calls, watches and open streams are held at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eksgateway.errors import Overloaded
from eksgateway.rpc.counts import count_down, count_up
from eksgateway.rpc.methods import Quota


class Quotas:
    """``per_key`` bounds each key (a caller or a connection). With ``total`` a key may always hold one, and
    more only while all keys together hold fewer than that.
    """

    def __init__(self, per_key: Mapping[Quota, int], total: Mapping[Quota, int] | None = None) -> None:
        self._per_key = per_key
        self._total = total or {}
        self._held: dict[tuple[str, Quota], int] = {}
        self._held_by_all = dict.fromkeys(Quota, 0)

    def acquire(self, key: str, quota: Quota) -> HeldQuota:
        """Raises Overloaded."""
        held = self._held.get((key, quota), 0)
        full = quota in self._total and self._held_by_all[quota] >= self._total[quota]
        if held >= self._per_key[quota] or (held and full):
            raise Overloaded
        count_up(self._held, (key, quota))
        self._held_by_all[quota] += 1
        return HeldQuota(self, key, quota)

    def release(self, key: str, quota: Quota) -> None:
        self._held_by_all[quota] -= 1
        count_down(self._held, (key, quota))


@dataclass(slots=True)
class HeldQuota:
    quotas: Quotas
    key: str
    quota: Quota

    def move(self, quota: Quota) -> None:
        """Hold another quota instead. Raises Overloaded, and keeps this one."""
        self.quotas.acquire(self.key, quota)
        self.release()
        self.quota = quota

    def release(self) -> None:
        self.quotas.release(self.key, self.quota)
