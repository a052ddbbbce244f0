"""`eksgateway policy bundle`: what it writes, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.policy.bundle.files import bundle_revision
from eksgateway.policy.compiled_policy import compile_policy
from eksgateway.policy.source import read_sources
from support.opa import EXAMPLE_DATA, POLICIES, evaluate_bundle
from support.processes import list_names
from support.questions import at_request, caller
from support.signing_keys import write_key

DECISION = "data.eksgateway.authz.decision"


def bundle(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", "bundle", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def read_bundle(file: Path) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive.getmembers()}  # type: ignore[union-attr]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "bundle.tar.gz"


def test_a_bundle_has_the_rego_the_compiled_data_and_the_manifest(output: Path) -> None:
    code, told, _ = bundle(EXAMPLE_DATA, "-o", output)
    files = read_bundle(output)
    compiled = compile_policy(read_sources(EXAMPLE_DATA))
    manifest = json.loads(files.pop(".manifest"))
    assert code == 0
    assert manifest["roots"] == ["eksgateway"]
    assert manifest["revision"].startswith(f"{compiled.revision}+rego.")
    assert files.pop("data.json") == compiled.data
    rego = {f"eksgateway/{each.name}": each.read_bytes() for each in (POLICIES / "eksgateway").glob("*.rego")}
    assert files == rego
    assert told.startswith(f"{EXAMPLE_DATA}: good: {compiled.counts}\nWrote {output}: ")
    assert f"not signed\nIts revision is {manifest['revision']}\n" in told


def test_an_opa_decides_by_the_bundle(output: Path) -> None:
    bundle(EXAMPLE_DATA, "-o", output)
    asked = at_request(caller("jwt:corp:alice", "corp:platform")).to_input()
    assert evaluate_bundle(output, DECISION, asked)["allow"] is True
    asked["subject"]["properties"]["groups"] = []
    assert evaluate_bundle(output, DECISION, asked)["allow"] is False


def test_a_folder_and_the_same_data_in_json_make_the_same_bundle(output: Path, tmp_path: Path) -> None:
    """And so does a second run."""
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "all.json").write_text(json.dumps(yaml.safe_load(EXAMPLE_DATA.read_text())))
    key = write_key(tmp_path, "ES256").private
    written = []
    for data in (EXAMPLE_DATA, folder, folder):
        assert bundle(data, "-o", output, "--signing-key", key)[0] == 0
        written.append(output.read_bytes())
    assert written[0] == written[1] == written[2]


def test_other_rego_makes_another_revision() -> None:
    """Or open streams would not be authorized again."""
    revisions = {bundle_revision("r1", {"authz.rego": rego}) for rego in (b"package x", b"package y")}
    assert len(revisions) == 2
    assert {each.partition("+")[0] for each in revisions} == {"r1"}


def test_the_signature_names_its_key(output: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path, "ES384").private
    code, told, warned = bundle(
        EXAMPLE_DATA, "-o", output, "--signing-key", key, "--signing-key-id", "policy-7"
    )
    assert (code, warned) == (0, "")
    assert "signed with ES384 by the key 'policy-7'" in told
    (token,) = json.loads(read_bundle(output)[".signatures.json"])["signatures"]
    header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert (header["alg"], header["kid"]) == ("ES384", "policy-7")


def test_a_key_that_others_can_read_is_used_with_a_warning(output: Path, tmp_path: Path) -> None:
    """Nothing that is printed has the key."""
    key = write_key(tmp_path, "HS256").private
    key.chmod(0o644)
    code, told, warned = bundle(EXAMPLE_DATA, "-o", output, "--signing-key", key)
    assert code == 0
    assert (
        warned == f"eksgateway: warning: {key} can be read by other users (mode 0644): run chmod 600 on it\n"
    )
    assert key.read_text()[:8] not in told + warned + output.read_bytes().decode("latin-1")


def test_faulty_data_is_refused_as_by_check(output: Path, tmp_path: Path) -> None:
    """The bundle from before stays."""
    data = tmp_path / "new.yaml"
    data.write_text("eksgateway: {grants: [{id: a, clusterz: [x]}]}")
    output.write_bytes(b"before")
    code, told, _ = bundle(data, "-o", output)
    checked = CliRunner().invoke(app, ["policy", "check", str(data)])
    assert (code, told) == (checked.exit_code, checked.stdout) == (1, told)
    assert "eksgateway.grants[0].clusterz: is not known here" in told
    assert output.read_bytes() == b"before"
    assert list_names(output.parent) == [output.name]


def test_data_that_no_gateway_would_load_is_refused(output: Path, tmp_path: Path) -> None:
    """Here, windows beyond their limit."""
    data = tmp_path / "busy.yaml"
    times = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 10, 20, 30, 40)]
    windows = [
        {"from": first, "until": last, "zone": "UTC"}
        for first, last in zip(times[::2], times[1::2], strict=True)
    ]
    freeze = {"id": "busy", "clusters": ["*"], "windows": windows}
    data.write_text(json.dumps({"eksgateway": {"grants": [], "freezes": [freeze]}}))
    code, told, _ = bundle(data, "-o", output)
    checked = CliRunner().invoke(app, ["policy", "check", str(data)])
    assert (code, told) == (checked.exit_code, checked.stdout) == (1, told)
    assert "busy" in told
    assert bundle(tmp_path / "none.yaml", "-o", output)[0] == 1
    assert not output.exists()


def test_an_older_bundle_is_replaced_in_one_step(output: Path) -> None:
    """It keeps its mode, and a reader that has it open its content. A link stays one."""
    output.write_bytes(b"before")
    output.chmod(0o640)
    link = output.with_name("link.tar.gz")
    link.symlink_to(output)
    with output.open("rb") as reader:
        code, told, _ = bundle(EXAMPLE_DATA, "-o", link)
        assert reader.read() == b"before"
    assert code == 0
    assert f"Replaced {link}: " in told
    assert link.is_symlink()
    assert "data.json" in read_bundle(output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


def test_a_new_bundle_has_the_mode_of_new_files(output: Path) -> None:
    before = os.umask(0o027)
    try:
        bundle(EXAMPLE_DATA, "-o", output)
    finally:
        os.umask(before)
    assert stat.S_IMODE(output.stat().st_mode) == 0o640


def test_an_output_that_cannot_be_written_is_refused(output: Path, tmp_path: Path) -> None:
    data, key = tmp_path / "data.yaml", write_key(tmp_path, "ES256").private
    data.write_text(EXAMPLE_DATA.read_text())
    for target, text in (
        (tmp_path / "no" / "bundle.tar.gz", f"{tmp_path / 'no'} is not a folder"),
        (output.parent, "is not a file"),
        (data, "is what the bundle is made from"),
        (key, "is what the bundle is made from"),
        (Path("/proc/bundle.tar.gz"), "cannot be written"),
        (Path("/dev/null"), "is not a file"),
    ):
        code, told, warned = bundle(data, "-o", target, "--signing-key", key)
        assert (code, told) == (2, "")
        assert warned.startswith(f"eksgateway: {target}: ")
        assert text in warned
    assert data.read_text() == EXAMPLE_DATA.read_text()
    assert bundle(data, "-o", "x" * 300) == (
        2,
        "",
        "eksgateway: the output cannot be written: File name too long\n",
    )


def test_an_unusable_key_is_refused_before_anything_is_written(output: Path, tmp_path: Path) -> None:
    key = write_key(tmp_path, "ES256")
    for arguments, text in (
        ((key.public,), "not a public key"),
        ((tmp_path / "none",), "cannot be read"),
        ((key.private, "--signing-alg", "RS256"), "does not sign with RS256: use ES256"),
        ((key.private, "--signing-alg", "none"), "does not sign with none: use ES256"),
    ):
        code, told, warned = bundle(EXAMPLE_DATA, "-o", output, "--signing-key", *arguments)
        assert (code, told, text in warned) == (2, "", True), warned
    assert not output.exists()


@pytest.mark.parametrize("option", ["--signing-alg", "--signing-key-id"])
def test_options_of_a_key_without_a_key_are_refused(option: str, output: Path) -> None:
    code, _, warned = bundle(EXAMPLE_DATA, "-o", output, option, "RS256")
    assert code == 2
    assert "--signing-key" in warned
    assert not output.exists()
