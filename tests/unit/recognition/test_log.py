import json
from pathlib import Path

from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.recognition.writer import SceneLog, merge_logs


def line(scene: str) -> str:
    return json.dumps({"scene": scene}) + "\n"


def test_a_torn_last_line_is_not_read_and_is_cut_off_before_the_next_append(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(line("a") + line("b") + '{"scene": "c')
    assert [record["scene"] for record in read_json_lines(path, dict)] == ["a", "b"]
    log = SceneLog(path)
    log.append(line("c"))
    log.close()
    assert path.read_text() == line("a") + line("b") + line("c")


def test_last_lines_of_scenes_that_were_not_finished_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "timings.jsonl"
    path.write_text(line("a") + line("left out") + line("b") + line("c") + '{"scene": "d')
    SceneLog(path, {"a", "b"}).close()
    assert path.read_text() == line("a") + line("left out") + line("b")
    SceneLog(path, set()).close()
    assert path.read_text() == ""


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert list(read_json_lines(tmp_path / "none.jsonl", dict)) == []


def test_merged_logs_hold_every_scene_once_in_scene_order(tmp_path: Path) -> None:
    target, first, second = (tmp_path / name for name in ("t.jsonl", "t.rank0.jsonl", "t.rank1.jsonl"))
    target.write_text(line("c"))
    first.write_text(line("a") + line("c"))
    second.write_text(line("d") + line("b") + '{"scene"')
    merge_logs(target, [first, second], {name: place for place, name in enumerate("abcd")})
    assert target.read_text() == "".join(line(name) for name in "abcd")
    assert not first.exists()
    assert not second.exists()
