"""The policy input of a question has the form of its schema."""

from __future__ import annotations

import json
from random import Random

import jsonschema
import pytest

from eksgateway.policy.question import Question
from support.opa import POLICIES
from support.policy_cases import CASES
from support.policy_generated import contents
from support.policy_questions import questions
from support.questions import at_request, at_target, at_update, caller

SCHEMA = json.loads((POLICIES / "schemas" / "input.json").read_text())


def test_every_input_fits_the_schema() -> None:
    """The schema allows no other members."""
    random = Random(3)
    generated = [q for content in contents(random, 20) for q in questions(random, content, 5)]
    validator = jsonschema.Draft7Validator(SCHEMA)
    for question in [*(case.question for case in CASES), *generated]:
        validator.validate(question.to_input())


@pytest.mark.parametrize(
    ("question", "kind", "identifier"),
    [
        (at_target(caller()), "eks_target", "111122223333/us-east-1"),
        (at_request(caller()), "eks_cluster", "111122223333/us-east-1/prod-1"),
        (at_update(at_request(caller())), "eks_update", "111122223333/us-east-1/prod-1/u-1"),
    ],
    ids=["target", "request", "update"],
)
def test_the_resource_depends_on_the_stage(question: Question, kind: str, identifier: str) -> None:
    resource = question.to_input()["resource"]
    assert (resource["type"], resource["id"]) == (kind, identifier)
