"""The 5 s within which an open watch ends after a policy change that no longer allows it. With an OPA:

    change ──poll_s──► poll ──REVISION_ANSWER_S──► noticed ──FACTS_ANSWER_S──► asked ──timeout_s──► ended

``poll_s`` and ``timeout_s`` are settings, bounded here. Many hundreds of questions that OPA answers slowly
take longer, because few are asked at once (``rights.asker``).
"""

from __future__ import annotations

from typing import Final

REVOKED_WITHIN_S: Final = 5.0
REVISION_ANSWER_S: Final = 1.0  # for OPA to report the revision in force
FACTS_ANSWER_S: Final = 1.0  # for EKS to report newer facts; without them, older ones are used
MAX_TIMEOUT_S: Final = 2.0  # `policy.timeout_s` with an OPA
MAX_POLL_AND_TIMEOUT_S: Final = REVOKED_WITHIN_S - REVISION_ANSWER_S - FACTS_ANSWER_S
