"""What a machine can do, from what its kernel says."""

import os
from pathlib import Path

import pytest

from naruto_vision.errors import MissingPackageError
from naruto_vision.io import machine


def test_cpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7})
    assert machine.allowed_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for told, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda told=told: told)
        assert machine.allowed_cpus() == expected


@pytest.mark.parametrize(
    ("flags", "found", "fast"),
    [
        ("fpu avx2", {"AVX2"}, False),
        ("avx512f avx_vnni", {"AVX512", "VNNI"}, False),
        ("avx512_vnni", {"VNNI"}, False),
        ("amx_bf16", {"AMX"}, True),
        ("avx512_bf16 avx2", {"AVX512-BF16", "AVX2"}, True),
        ("", set(), False),
    ],
)
def test_vector_units_are_read_from_the_first_cpu(tmp_path: Path, flags: str, found: set[str], fast: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor: 0\nflags\t\t: {flags}\nprocessor: 1\nflags\t: avx2 avx512f amx_bf16\n")
    features = machine.cpu_features(info)
    assert {name for name, there in features.items() if there} == found
    assert set(features) == set(machine.CPU_FEATURES)
    assert machine.has_fast_bf16(info) is fast
    assert not any(machine.cpu_features(tmp_path / "none").values())


@pytest.mark.parametrize(("extra", "needed"), [("onnx", r"'naruto-vision\[onnx\]'"), ("", "no-such-package")])
def test_a_missing_package_is_named_with_what_installs_it(extra: str, needed: str) -> None:
    with pytest.raises(MissingPackageError, match=rf"^no_such_package is not installed; run: pip install {needed}$"):
        machine.require_package("no_such_package", extra)
