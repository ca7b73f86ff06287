"""``naruto-vision doctor``: facts, findings and the report."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from naruto_vision.cli import doctor
from naruto_vision.cli.doctor import Facts, bundle_state, diagnose, openmp_runtimes
from naruto_vision.cli.main import main
from naruto_vision.errors import MissingPathError
from naruto_vision.io.machine import cpu_features, has_fast_bf16

HEALTHY = Facts(
    versions={"lightning": "2.6.6", "torch": "2.15.0", "faiss-cpu": "1.15.1", "faiss-gpu": ""},
    required={"lightning": ">=2.6.6,<2.7,!=2.6.2", "torch": ">=2.10,<3"},
    cpus=2,
    threads=2,
    openmp=("/x/libgomp.so.1", "/y/libgomp-1a2b.so.1.0.0"),
    weights={"tiny-clip": "ok"},
    free_gb={"here": 10.0},
    writable={"here": True},
)

SICK = [
    ({"versions": {**HEALTHY.versions, "lightning": "2.6.2"}}, "malicious"),
    ({"versions": {**HEALTHY.versions, "pytorch-lightning": "2.6.3"}}, "malicious"),
    ({"versions": {**HEALTHY.versions, "torch": "2.9.1"}}, "torch 2.9.1 is not supported"),
    ({"versions": {**HEALTHY.versions, "torch": ""}}, "torch is not installed"),
    ({"versions": {**HEALTHY.versions, "faiss-gpu": "1.15.1"}}, "both installed"),
    ({"versions": {**HEALTHY.versions, "faiss-cpu": ""}}, "FAISS is not installed"),
    ({"faults": {"cv2": "libGL.so.1: cannot open"}}, "cv2 is installed but cannot be imported"),
    ({"threads": 64}, "OMP_NUM_THREADS is 64"),
    ({"openmp": ("/x/libgomp.so.1", "/y/libiomp5.so")}, "two kinds"),
    ({"duplicates_allowed": True}, "KMP_DUPLICATE_LIB_OK"),
    ({"gpu_driver": True}, "torch sees no GPU"),
    ({"weights": {"tiny-clip": "missing"}}, "tiny-clip: missing"),
    ({"free_gb": {"here": 0.5}}, "0.5 GB free"),
    ({"writable": {"here": False}}, "not writable"),
]


def test_a_machine_without_a_gpu_is_healthy() -> None:
    assert HEALTHY.gpu == ""
    assert diagnose(HEALTHY) == ()
    assert diagnose(replace(HEALTHY, gpu="some GPU", gpu_driver=True)) == ()


@pytest.mark.parametrize(("change", "problem"), SICK, ids=[problem for _, problem in SICK])
def test_each_fault_is_found_with_a_remedy(change: dict[str, object], problem: str) -> None:
    findings = diagnose(replace(HEALTHY, **change))  # type: ignore[arg-type]  # each row names its own field
    assert any(problem in finding.problem for finding in findings)
    assert all(finding.remedy for finding in findings)


def test_openmp_runtimes_are_read_once_each(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    line = "7f00-7f01 r-xp 00000000 08:01 42   {}\n"
    maps.write_text("".join(line.format(path) for path in ("/a/libgomp.so.1", "/a/libgomp.so.1", "/b/libc.so.6")))
    assert openmp_runtimes(maps) == ("/a/libgomp.so.1",)
    assert openmp_runtimes(tmp_path / "nothing") == ()


def test_cpu_features_come_from_the_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f avx_vnni\n")
    assert cpu_features(info) == {"AVX2": True, "AVX512": True, "VNNI": True, "AVX512-BF16": False, "AMX": False}
    assert not has_fast_bf16(info)
    info.write_text("flags : amx_bf16\n")
    assert has_fast_bf16(info)
    assert not any(cpu_features(tmp_path / "nothing").values())


def test_json_and_table_agree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sick = replace(HEALTHY, duplicates_allowed=True)
    monkeypatch.setattr("naruto_vision.cli.doctor.gather_facts", lambda: sick)
    assert main(["doctor", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["facts"]["cpus"] == 2
    assert "KMP_DUPLICATE_LIB_OK" in shown["wrong"][0]["problem"]
    assert main(["doctor"]) == 1
    assert "What is wrong\n  - KMP_DUPLICATE_LIB_OK" in capsys.readouterr().out
    monkeypatch.setattr("naruto_vision.cli.doctor.gather_facts", lambda: HEALTHY)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.endswith("What is wrong\n  nothing\n")


def printed(facts: Facts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setattr("naruto_vision.cli.doctor.gather_facts", lambda: facts)
    main(["doctor"])
    return capsys.readouterr().out.splitlines()


def test_groups_of_nothing_have_no_heading(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Import errors" not in printed(HEALTHY, monkeypatch, capsys)
    assert "OpenMP runtimes loaded" not in printed(replace(HEALTHY, openmp=()), monkeypatch, capsys)
    lines = printed(replace(HEALTHY, faults={"cv2": "libGL.so.1: cannot open"}), monkeypatch, capsys)
    assert lines[lines.index("Import errors") + 1].split(maxsplit=1) == ["cv2", "libGL.so.1: cannot open"]
    assert all(line or after for line, after in itertools.pairwise(lines))  # never two empty lines


def test_supported_versions_stand_beside_installed_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(HEALTHY, monkeypatch, capsys)
    assert ["torch", "2.15.0", ">=2.10,<3"] in [line.split() for line in lines]
    assert ["faiss-gpu", "-"] in [line.split() for line in lines]
    assert "Required" not in lines


@pytest.mark.parametrize(("text", "number"), [("", 0), ("4", 4), ("4,2", 4), ("x", 0), ("-1", 0), (" 4", 0)])
def test_threads_are_read_as_openmp_does(text: str, number: int) -> None:
    assert doctor._number(text) == number


def _bundle(folder: Path, info: str | None, weights: bytes | None = b"weights") -> Path:
    folder.mkdir()
    if info is not None:
        (folder / "model.json").write_text(info)
    if weights is not None:
        (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.mark.parametrize(
    ("info", "weights", "state"),
    [
        ('{"sha256": "9a15"}', b"weights", "its weights do not match the hash in model.json"),
        ("{}", b"weights", "its weights do not match the hash in model.json"),
        ("{", b"weights", "unreadable ("),
        ("{}", None, "unreadable ("),
    ],
)
def test_what_is_wrong_with_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, info: str, weights: bytes | None, state: str
) -> None:
    folder = _bundle(tmp_path / "b", info, weights)
    monkeypatch.setattr(doctor, "bundle_path", lambda _: folder)
    assert bundle_state("b").startswith(state)


def test_a_bundle_that_is_whole_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle_state("tiny-clip") == "ok"

    def missing(name: str) -> Path:
        raise MissingPathError(name, "model bundle")

    monkeypatch.setattr(doctor, "bundle_path", missing)
    assert bundle_state("tiny-clip") == "missing"
