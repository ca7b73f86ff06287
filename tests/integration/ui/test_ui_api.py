import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from naruto_vision.cli.main import main

if TYPE_CHECKING:
    from conftest import Server


def _upload(client: httpx.Client, *paths: Path) -> list[dict[str, Any]]:
    answer = client.post("/api/files", files=[("files", (path.name, path.read_bytes())) for path in paths])
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_scene_is_named_as_predict_names_it(server: "Server", tmp_path: Path) -> None:
    scene = server.world.scenes[0]
    with server.client() as client:
        files = [("files", (scene.name, scene.read_bytes()))]
        preset = client.get("/api/presets").json()["presets"][0]
        answer = client.post("/api/analyze", data={"preset": preset}, files=files)
    assert answer.status_code == 200, answer.text
    assert (
        main(["predict", str(scene), "--gallery", str(server.world.runs / "gallery"), "--out", str(tmp_path / "out")])
        == 0
    )
    (line,) = (tmp_path / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    expected, (found,) = json.loads(line)["regions"], answer.json()["scenes"]
    assert [(each["box"], each["name"]) for each in found["regions"]] == [(e["bbox"], e["name"]) for e in expected]
    assert expected


def _analyze(client: httpx.Client, scene: Path, **settings: Any) -> httpx.Response:
    preset = client.get("/api/presets").json()["presets"][0]
    data = {"preset": preset, "settings": json.dumps(settings)}
    return client.post("/api/analyze", data=data, files=[("files", (scene.name, scene.read_bytes()))])


def test_controls_are_those_of_the_preset_and_change_what_is_found(server: "Server") -> None:
    scene = server.world.scenes[1]
    with server.client() as client:
        preset = client.get("/api/presets").json()["presets"][0]
        client.post("/api/segment", json={"file": ""})  # starts a session
        own = client.get(f"/api/controls/{preset}").json()
        assert (own["min_area"], own["max_masks"], own["expand"], own["background"]) == (256, 12, 0.18, "black")
        plain = _analyze(client, scene).json()["scenes"][0]["regions"]
        same = _analyze(client, scene, **{name: own[name] for name in ("min_area", "max_masks", "expand", "top_k")})
        assert [each["box"] for each in same.json()["scenes"][0]["regions"]] == [each["box"] for each in plain]
        assert [each["score"] for each in same.json()["scenes"][0]["regions"]] == [each["score"] for each in plain]
        (one,) = _analyze(client, scene, max_masks=1).json()["scenes"][0]["regions"]
        assert one["box"] == plain[0]["box"]
        for change in ({"background": "white"}, {"expand": 0.3, "background": "image"}):
            other = _analyze(client, scene, **change).json()["scenes"][0]["regions"]
            assert [each["score"] for each in other] != [each["score"] for each in plain]
        shown = _analyze(client, scene, top_k=1, prefer_different_label=True).json()["scenes"][0]["regions"]
        assert sum(each["shown"] for each in shown) == 1
        assert _analyze(client, scene, min_ratio=0.2, max_ratio=0.2).json()["scenes"][0]["regions"] == []
        for backend in ("exact", "faiss"):
            found = _analyze(client, scene, backend=backend, weights="tiny-sam").json()["scenes"][0]["regions"]
            assert [each["name"] for each in found] == [each["name"] for each in plain]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_masks": 17}, "max_masks: expected a number from 1 to 16"),
        ({"weights": "../model.pth"}, "weights '../model.pth': expected one of tiny-sam"),
        ({"backgrund": "black"}, "backgrund"),
        ({"expand": "much"}, "expand"),
    ],
)
def test_controls_out_of_range_are_refused(settings: dict[str, Any], said: str, server: "Server") -> None:
    with server.client() as client:
        answer = _analyze(client, server.world.scenes[0], **settings)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_results_are_kept_under_a_name_once(server: "Server") -> None:
    kept = server.log.parent / "kept" / "my_run"
    with server.client() as client:
        assert _analyze(client, server.world.scenes[0], keep_as="my_run").status_code == 200
        assert (kept / "predictions.jsonl").is_file()
        again = _analyze(client, server.world.scenes[0], keep_as="my_run")
        assert (again.status_code, "choose another" in again.json()["detail"]) == (422, True)
        assert _analyze(client, server.world.scenes[0], keep_as="../../outside").status_code == 200
    assert not (server.log.parent.parent / "outside").exists()


def test_points_and_a_box_give_three_masks(server: "Server") -> None:
    with server.client() as client:
        (file,) = _upload(client, server.world.scenes[0])
        query = {"file": file["id"], "box": [100, 90, 20, 10], "points": [[50, 50, True], [2, 2, False]], "mask": 2}
        found = client.post("/api/segment", json=query).json()
        assert found["box"] == [20, 10, 100, 90]  # swapped corners are put in order
        assert (len(found["masks"]), found["chosen"]) == (3, 2)
        outside = client.post("/api/segment", json={"file": file["id"], "points": [[5000, 5, True]]})
        assert (outside.status_code, outside.json()["detail"]) == (
            422,
            "point 5000,5: is outside the image of 128x128 pixels",
        )
        assert client.post("/api/segment", json=query).json()["masks"] == found["masks"] or found["milliseconds"]


def test_a_gallery_is_searched_by_image_and_by_text(server: "Server") -> None:
    train = next((server.world.root / "data/train").glob("*.jpg"))
    with server.client() as client:
        preset = client.get("/api/presets").json()["presets"][0]
        (file,) = _upload(client, train)
        found = client.post("/api/search", json={"preset": preset, "file": file["id"], "k": 3}).json()
        assert found["neighbours"][0]["path"].endswith(train.name)
        assert len(found["neighbours"]) == 3
        text = client.post("/api/search", json={"preset": preset, "text": "a girl with a hat", "k": 20}).json()
        assert len(text["neighbours"]) == 20
        assert "texts have no threshold" in text["sentence"]
        listed = client.get(f"/api/gallery/{preset}").json()
        assert sum(listed["labels"].values()) > 20
        assert client.get("/api/gallery/other").status_code == 422


def test_the_api_is_described(server: "Server") -> None:
    with server.client() as client:
        paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/analyze", "/api/search", "/api/segment", "/api/gallery/{preset}", "/api/video/search"} <= set(paths)


def test_files_of_a_session_are_seen_by_it_alone(server: "Server") -> None:
    with server.client() as first, server.client() as second:
        (file,) = _upload(first, server.world.scenes[0])
        assert second.post("/api/segment", json={"file": file["id"], "points": [[5, 5, True]]}).status_code == 422
        assert first.post("/api/segment", json={"file": file["id"], "points": [[5, 5, True]]}).status_code == 200


@pytest.mark.parametrize("options", [(), ("--runs", "nowhere")])
def test_without_a_gallery_one_line_names_the_command_that_makes_one(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if options:
        assert main(["ui", *options, "--port", "0"]) == 2
        assert "naruto-vision fit --config gallery.yaml" in capfd.readouterr().err
    else:
        assert main(["ui", "--host", "0.0.0.0", "--port", "0"]) == 2  # noqa: S104 - refused without a password
        assert "--auth" in capfd.readouterr().err


@pytest.mark.slow  # two servers load their models
def test_servers_behind_one_address_answer_alike(workers: "tuple[Server, Server]") -> None:
    scene = workers[0].world.scenes[0]
    with workers[0].client() as client, workers[1].client() as other:
        client.timeout = other.timeout = 240.0  # for two processes that load models at once
        found = [_analyze(each, scene) for each in (client, other, client)]
        other.cookies.update(client.cookies)  # a client that is sent from one to the other
        found.append(_analyze(other, scene))
        assert [answer.status_code for answer in found] == [200] * 4
        regions = [answer.json()["scenes"][0]["regions"] for answer in found]
        assert [[(one["box"], one["name"], one["score"]) for one in each] for each in regions[1:]] == [
            [(one["box"], one["name"], one["score"]) for one in regions[0]]
        ] * 3
        preset = client.get("/api/presets").json()["presets"][0]
        (file,) = _upload(client, scene)
        query = {"preset": preset, "file": file["id"]}
        assert client.post("/api/search", json=query).status_code == 200
        assert other.post("/api/search", json=query).status_code == 422  # uploads are of one server
        added = client.post(f"/api/gallery/{preset}/add", json={"files": [file["id"]], "label": "Newcomer"})
        assert added.status_code == 200, added.text
        text = [each.get(f"/api/gallery/{preset}").text for each in (client, other)]
        assert text[0] == text[1]
        (again,) = _upload(other, scene)
        best = other.post("/api/search", json={"preset": preset, "file": again["id"]}).text
        assert "Newcomer" in best
