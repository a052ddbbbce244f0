"""Reads the result of a policy as a decision: only a boolean true without obligations allows."""

from __future__ import annotations

from typing import Any, Final

from eksgateway import strict_json
from eksgateway.errors import PolicyInvalid, PolicyObligationUnknown, PolicyUndefined
from eksgateway.model import Decision, Obligation

MAX_RESULT_BYTES: Final = 256 << 10  # parsed on the event loop, which a larger result would block
MAX_TEXT_BYTES: Final = 2048  # of a reason, a rule id or a revision
UNDEFINED: Final = object()  # the policy gave no result; a JSON null is a result (an invalid one)


def read_decision(result: Any, *, decision_id: str, revision: str) -> Decision:
    """Raises PolicyUndefined or PolicyInvalid."""
    if result is UNDEFINED:
        raise PolicyUndefined
    if not isinstance(result, dict):
        raise PolicyInvalid(detail=f"the policy's result is {_type_name(result)}, not an object")
    allow = result.get("allow")
    if not isinstance(allow, bool):
        raise PolicyInvalid(detail=f"allow is {_type_name(allow)}, not a boolean")
    obligations = result.get("obligations", [])
    if not isinstance(obligations, list):
        raise PolicyInvalid(detail=f"obligations is {_type_name(obligations)}, not a list")
    return Decision(
        decision_id,
        allowed=allow and not obligations,
        rule_ids=_read_texts(result, "rules"),
        reasons=_read_texts(result, "reasons"),
        policy_revision=revision,
        obligations=tuple(map(_read_obligation, obligations)) if allow else (),
    )


def holds_until_edge(result: Any) -> bool:
    """Whether the policy declares that it decides the same until its next edge (docs/policy-engines.md)."""
    return isinstance(result, dict) and result.get("until_edge") is True


def obligation_error(decision: Decision) -> PolicyObligationUnknown:
    """The error for an allow with obligations; this gateway knows none so far."""
    rules = ", ".join(decision.rule_ids)
    return PolicyObligationUnknown(detail=f"{len(decision.obligations)} obligations, by rules {rules}")


def parse_response(raw: bytes, *, max_bytes: int = MAX_RESULT_BYTES) -> Any:
    """An engine's response. Raises PolicyInvalid if it is too large or not strict JSON."""
    if len(raw) > max_bytes:
        raise PolicyInvalid(detail=f"the policy's answer is larger than {max_bytes} bytes")
    try:
        return strict_json.loads(raw)
    except ValueError as exc:
        raise PolicyInvalid(detail=f"the policy's answer is not JSON: {exc!s:.200}") from exc


def read_result_set(raw: bytes) -> Any:
    """The only result in a Wasm module's result set, or UNDEFINED. Raises PolicyInvalid."""
    match parse_response(raw):
        case []:
            return UNDEFINED
        case [{"result": result}]:
            return result
    raise PolicyInvalid(detail="the policy's answer is not a result set")


def check_text(text: str, name: str) -> str:
    """The text, if it can be stored and sent. Raises PolicyInvalid."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:  # half a surrogate pair
        raise PolicyInvalid(detail=f"{name} has text that is not Unicode") from exc
    if size > MAX_TEXT_BYTES:
        raise PolicyInvalid(detail=f"{name} has a text of over {MAX_TEXT_BYTES} bytes")
    return text


def _read_texts(result: dict[str, Any], key: str) -> tuple[str, ...]:
    values = result.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise PolicyInvalid(detail=f"{key} is not a list of strings")
    return tuple(check_text(value, key) for value in values)


def _read_obligation(value: Any) -> Obligation:
    if isinstance(value, str):
        return Obligation(value)
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        return Obligation(value["id"], {key: each for key, each in value.items() if key != "id"})
    return Obligation("", {"value": value})


def _type_name(value: Any) -> str:
    return "missing or null" if value is None else f"a {type(value).__name__}"
