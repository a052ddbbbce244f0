"""`eksgateway policy bundle`: writes policy data and the policy's Rego as an OPA bundle."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from eksgateway.cli.output.terminal import print_lines
from eksgateway.cli.policy_arguments import REFUSED, describe_refusal, report_unusable
from eksgateway.errors import StartError
from eksgateway.file_writer import replace_file
from eksgateway.policy.bundle.archive import make_bundle
from eksgateway.policy.bundle.files import bundle_revision
from eksgateway.policy.bundle.signing_key import SigningKey, load_signing_key
from eksgateway.policy.compiled_policy import CompiledPolicy, compile_policy
from eksgateway.policy.engine import PolicyLoadError
from eksgateway.policy.files import read_module
from eksgateway.policy.loaded_policy import LoadedPolicy
from eksgateway.policy.source import read_sources
from eksgateway.policy.wasm_module import PolicyModule
from eksgateway.policy.wasm_runtime import WasmRuntime


@dataclass(frozen=True, slots=True)
class BundleOptions:
    """``algorithm`` and ``key_id`` are of the signing key."""

    data: Path
    output: Path
    signing_key: Path | None
    algorithm: str | None
    key_id: str


def write_bundle(options: BundleOptions) -> int:
    """Return the exit code: 0, 1 if the data is refused, or 2 if the key or the output cannot be used."""
    try:
        key = _load_key(options)
        _check_output(options)
        compiled = compile_policy(read_sources(options.data))
        _check_as_gateways_do(compiled)
        archive = make_bundle(compiled.data, compiled.revision, key)
        replaced = options.output.exists()
        _write(options.output, archive)
    except PolicyLoadError as exc:
        print_lines(describe_refusal(options.data, exc).splitlines())
        return REFUSED
    except StartError as exc:
        return report_unusable(exc)
    signed = f"signed with {key.algorithm} by the key {key.key_id!r}" if key else "not signed"
    print_lines(
        [
            f"{options.data}: good: {compiled.counts}",
            f"{'Replaced' if replaced else 'Wrote'} {options.output}: {len(archive)} bytes, {signed}",
            f"Its revision is {bundle_revision(compiled.revision)}",
        ]
    )
    return 0


def _check_as_gateways_do(compiled: CompiledPolicy) -> None:
    """Raise PolicyLoadError for what `eksgateway policy check` refuses."""
    with closing(WasmRuntime()) as runtime:
        LoadedPolicy.load(PolicyModule(runtime, read_module(None)), compiled).close()
    compiled.check_rules(datetime.now(UTC))


def _load_key(options: BundleOptions) -> SigningKey | None:
    if options.signing_key is None:
        return None
    key = load_signing_key(options.signing_key, key_id=options.key_id, algorithm=options.algorithm)
    for warning in key.warnings:
        print(f"eksgateway: warning: {warning}", file=sys.stderr)
    return key


def _check_output(options: BundleOptions) -> None:
    try:
        _require_free(options, options.output)
    except OSError as exc:  # such as a name that is too long
        raise StartError(f"the output cannot be written: {exc.strerror}") from exc


def _require_free(options: BundleOptions, output: Path) -> None:
    for other in (options.data, options.signing_key):
        if other is not None and output.exists() and other.exists() and output.samefile(other):
            raise StartError(f"{output}: is what the bundle is made from: name another file with --output")
    if output.exists() and not output.is_file():
        raise StartError(f"{output}: is not a file: name one with --output")
    if not output.parent.is_dir():
        raise StartError(f"{output}: {output.parent} is not a folder: create it, or name a file elsewhere")


def _write(output: Path, content: bytes) -> None:
    target = output.resolve()  # a link stays one
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        replace_file(target, content, mode)
    except OSError as exc:
        raise StartError(f"{output}: cannot be written: {exc.strerror}") from exc


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
