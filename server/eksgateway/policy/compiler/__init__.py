"""Compiles checked policy content to the index that the Rego reads (docs/policy-form.md).

The compiler reads no file and no clock: equal content gives an equal index.
"""

from eksgateway.policy.compiler.index import compile_content

__all__ = ["compile_content"]
