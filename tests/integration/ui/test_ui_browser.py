import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import config_path

if TYPE_CHECKING:
    from conftest import Server, StartServer, World
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser
TABS = ("Scene", "Search", "Prompts", "Automatic", "Video", "Gallery", "Monitoring")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from conftest import CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--no-first-run", "--disable-sync"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: "Browser", server: "Server") -> Iterator[OpenPage]:
    """Open the page as a user of its own; at the end, nothing was written to the console or asked of others."""
    faults: list[str] = []
    contexts = []

    def start(tab: str = "Scene", *, width: int = 1280, height: int = 800, dark: bool = False) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda line: faults.append(line.text) if line.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: None if _own(asked.url, server.address) else faults.append(asked.url))
        page.goto(server.address)
        _open_tab(page, tab)
        return page

    yield start
    for context in contexts:
        context.close()
    assert faults == []


def _open_tab(page: "Page", name: str) -> None:
    """Open a tab, and wait until its panel has replaced that of the tab before."""
    page.get_by_role("tab", name=name).click()
    page.get_by_role("tabpanel", name=name).wait_for()


def _own(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def _bring(page: "Page", *paths: Path) -> None:
    zone = page.locator(".nv-drop:visible").first
    with page.expect_file_chooser() as chooser:
        zone.click()
    chooser.value.set_files([str(path) for path in paths])


def _downloads(page: "Page") -> dict[str, bytes]:
    """Open the list of files, and fetch all of them as the browser does."""
    page.get_by_text("Files", exact=True).last.click()
    links = page.locator("a[download]:visible")
    links.first.wait_for()
    found = {}
    for link in links.all():
        answer = page.request.get(page.url.rstrip("/") + str(link.get_attribute("href")))
        assert answer.ok
        found[link.inner_text()] = answer.body()
    return found


def _status(page: "Page", pattern: str) -> "Locator":
    from playwright.sync_api import TimeoutError as Late

    found = page.locator("[role=status]:visible").filter(has_text=re.compile(pattern))
    try:
        found.first.wait_for()
    except Late:
        said = page.locator("[role=status], .q-notification").all_inner_texts()
        raise AssertionError(f"expected a status like {pattern!r}, found {said}") from None
    return found.first


def test_a_scene_is_named_explained_and_downloaded_as_predict_writes_it(
    open_page: OpenPage, server: "Server", tmp_path: Path
) -> None:
    scene, page = server.world.scenes[0], open_page()
    _bring(page, scene)
    page.locator(".nv-region").first.wait_for()
    _status(page, "done")
    page.locator(".nv-region").first.dispatch_event("pointerdown")
    page.get_by_text("this region", exact=True).wait_for()
    page.get_by_text("evidence in the nearest entry").wait_for()
    assert page.locator(".nv-card .nv-tile img").count() == 8  # the region, its five nearest images, and two maps
    shown = page.locator(".nv-region").count()
    page.get_by_label(re.compile("show or hide region")).first.click()
    page.wait_for_function(f"document.querySelectorAll('.nv-region').length === {shown - 1}")
    found = _downloads(page)
    out = tmp_path / "out"
    assert main(["predict", str(scene), "--gallery", str(server.world.runs / "gallery"), "--out", str(out)]) == 0
    same = [name for name in found if name not in {"run.json", "timings.jsonl", "index.html"}]
    assert {"predictions.jsonl", "coco.json", f"json/{scene.stem}_overlay.json"} <= set(same)
    for name in same:
        assert (out / name).read_bytes() == found[name], name


def test_several_scenes_can_be_cancelled(open_page: OpenPage, server: "Server", tmp_path: Path) -> None:
    page = open_page()
    copies = [tmp_path / f"copy_{number}.jpg" for number in range(40)]
    for copy in copies:
        copy.write_bytes(server.world.scenes[1].read_bytes())
    _bring(page, *copies)
    page.locator(".nv-grid .nv-tile:visible svg").first.wait_for()
    page.get_by_role("button", name="Cancel").click()
    _status(page, "cancelled")
    assert page.locator(".nv-grid .nv-tile:visible svg").count() < 40


def _tab_to(page: "Page", target: "Locator", steps: int = 60) -> None:
    for _ in range(steps):
        if target.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError("the keyboard does not reach it")


def test_scene_search_and_prompts_by_keyboard_alone(open_page: OpenPage) -> None:
    page = open_page()
    tile = page.get_by_role("button", name=re.compile("name the characters of")).first
    tile.wait_for()
    _tab_to(page, tile)
    page.keyboard.press("Enter")
    page.locator(".nv-region").first.wait_for()
    _status(page, "done")
    _tab_to(page, page.get_by_label("explain region 1"))
    page.keyboard.press("Enter")
    page.get_by_text("this region", exact=True).wait_for()
    tabs = page.get_by_role("tab")
    page.keyboard.press("Home")
    _tab_to(page, tabs.filter(has_text="Scene"), 120)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    field = page.get_by_label("Search by text")
    field.wait_for()
    _tab_to(page, field)
    page.keyboard.type("a girl with pink hair")
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("texts have no threshold")).first.wait_for()
    _tab_to(page, tabs.filter(has_text="Search"), 120)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _status(page, "no prompts")  # the image of the tab Scene
    _tab_to(page, page.locator(".nv-stage:visible [tabindex='0']"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _status(page, "^mask ")
    page.keyboard.press("Control+z")
    _status(page, "no prompts")


def test_prompts_by_mouse_and_keys_with_undo_and_files_as_segment_writes_them(
    open_page: OpenPage, server: "Server", tmp_path: Path
) -> None:
    scene, page = server.world.scenes[2], open_page("Prompts")
    _bring(page, scene)
    image = page.locator(".nv-stage:visible img").first
    _status(page, "no prompts")
    box = image.bounding_box()
    assert box is not None

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(0.8, 0.9))
    page.mouse.down()
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.move(*at(0.25, 0.25))
    page.mouse.up()
    page.locator(".nv-box").wait_for()
    page.mouse.click(*at(0.5, 0.5))
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 1")
    page.keyboard.down("Shift")
    page.mouse.click(*at(0.05, 0.05))
    page.keyboard.up("Shift")
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 2")
    page.keyboard.press("Control+z")
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 1")
    page.keyboard.press("Control+y")
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 3")
    page.keyboard.press("Backspace")
    page.wait_for_function("document.querySelectorAll('.nv-point').length === 2")
    place = page.locator(".nv-point").first.get_attribute("cx")
    page.mouse.move(*at(0.5, 0.5))
    page.mouse.down()
    page.mouse.move(*at(0.6, 0.6))
    page.mouse.up()
    page.wait_for_function(f"document.querySelector('.nv-point').getAttribute('cx') !== '{place}'")
    page.keyboard.press("3")
    _status(page, "^mask 3")
    page.keyboard.press("s")
    page.locator("a[download]:visible").first.wait_for()
    found = {
        link.inner_text(): page.request.get(page.url.rstrip("/") + str(link.get_attribute("href"))).body()
        for link in page.locator("a[download]:visible").all()
    }
    prompts = json.loads(found[f"{scene.stem}_points.json"])
    assert [point["label"] for point in prompts["points"]] == [1, 0]
    argv = ["segment", str(scene), "--out", str(tmp_path / "out"), "--logs", str(tmp_path / "logs"), "--mask", "2"]
    argv += ["--box", ",".join(map(str, prompts["boxes"][0]))]
    for point in prompts["points"]:
        argv += ["--point", f"{point['x']},{point['y']},{point['label']}"]
    assert main(argv) == 0
    same = [name for name in found if name.endswith((".png", ".jpg", "points.json", "coco.json", "predictions.jsonl"))]
    assert len(same) >= 5
    assert f"mask_{scene.stem}.png" in same
    for name in (name for name in same if not name.startswith("mask_")):
        assert (tmp_path / "out" / name).read_bytes() == found[name], name


def test_the_mask_under_the_pointer_is_previewed(open_page: OpenPage, server: "Server") -> None:
    page = open_page("Prompts")
    _bring(page, server.world.scenes[2])
    _status(page, "no prompts")
    page.locator(".nv-stage:visible img").first.hover()
    page.locator(".nv-hover").wait_for()
    page.mouse.move(5, 5)
    page.locator(".nv-hover").wait_for(state="detached")
    assert page.locator(".nv-point").count() == 0


def test_a_change_of_the_gallery_fills_the_controls(
    browser: "Browser", world: "World", start_server: "StartServer", tmp_path: Path
) -> None:
    own = tmp_path / "own"
    scene = ["--gallery", str(world.runs / "gallery"), "--out", str(own)]
    assert main(["predict", str(world.scenes[0]), *scene, "--model.segmenter.init_args.keep.max_masks", "3"]) == 0
    server = start_server("--runs", str(world.runs), "--runs", str(own))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(server.address)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_text("Regions at most: 12").wait_for()
    page.get_by_label("Gallery", exact=True).first.click()
    page.get_by_role("option", name="own").click()
    page.get_by_text("Regions at most: 3").wait_for()
    page.close()


def test_two_users_at_once_see_their_own_images(open_page: OpenPage, server: "Server") -> None:
    pages = [open_page(), open_page()]
    for page, scene in zip(pages, server.world.scenes[:2], strict=True):
        _bring(page, scene)
    for page, scene in zip(pages, server.world.scenes[:2], strict=True):
        page.locator(".nv-region").first.wait_for()
        page.get_by_text(re.compile(f"^{scene.name}: ")).wait_for()
    other = pages[1].locator("img[src^='/files/']").first.get_attribute("src")
    assert pages[0].request.get(pages[0].url.rstrip("/") + str(other)).status == 404


def test_search_by_text_and_by_image(open_page: OpenPage, server: "Server") -> None:
    page = open_page("Search")
    field = page.get_by_role("textbox", name=re.compile("text", re.IGNORECASE)).first
    field.fill("a girl with pink hair")
    field.press("Enter")
    page.get_by_text(re.compile("texts have no threshold")).first.wait_for()
    _bring(page, next((server.world.root / "data/train").glob("*.jpg")))
    page.get_by_text(re.compile(r"1\.000")).first.wait_for()


def test_saliency_and_a_sweep_with_a_clicked_point_are_described(open_page: OpenPage, server: "Server") -> None:
    page = open_page("Automatic")
    _bring(page, server.world.scenes[3])
    page.locator(".nv-stage:visible img").first.wait_for()
    run = page.get_by_role("button", name="Find the regions")
    page.get_by_label("How", exact=True).click()
    page.get_by_role("option", name=re.compile("sweep", re.IGNORECASE)).click()
    image = page.locator(".nv-stage:visible img").first
    box = image.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_label("remove point 1").wait_for()
    run.click()
    page.locator(".nv-region:visible").first.wait_for()
    _status(page, "done")
    assert page.locator("a[download]").count() or _downloads(page)


def test_a_video_is_indexed_searched_and_played(open_page: OpenPage, tmp_path: Path) -> None:
    pytest.importorskip("av")
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.videos import SyntheticVideo, VideoConfig, write_video

    clip = tmp_path / "clip.mp4"
    video = SyntheticVideo(3, read_cast(config_path("cast.yaml")), VideoConfig(seconds=2, fps=8, width=64, height=48))
    write_video(clip, video)
    page = open_page("Video")
    _bring(page, clip)
    _status(page, "done")
    page.get_by_label("What happens, or who is seen").fill("a girl")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("[aria-label^='play at ']:visible").first.click()
    page.locator("video").wait_for()
    assert page.evaluate("document.querySelector('video').readyState") >= 0


def test_an_image_is_added_relabelled_and_rolled_back(
    browser: "Browser", world: "World", start_server: "StartServer", tmp_path: Path
) -> None:
    own = tmp_path / "runs"
    shutil.copytree(world.runs, own)
    server = start_server("--runs", str(own))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(server.address)
    _open_tab(page, "Gallery")
    _bring(page, world.scenes[0])
    page.get_by_label("Name of the character").fill("Nobody <b>else</b>")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("Nobody <b>else</b>", exact=False).first.wait_for()
    generations = page.get_by_label(re.compile("roll back to generation"))
    generations.first.wait_for()
    page.get_by_label("roll back to generation 1").click()
    page.get_by_role("button", name="Roll back", exact=True).click()
    page.get_by_label("roll back to generation 2").wait_for()  # 3 is the current one
    page.close()
    (preset,) = httpx.get(f"{server.address}/api/presets").json()["presets"]
    listed = httpx.get(f"{server.address}/api/gallery/{preset}").json()["labels"]
    assert sum(listed.values()) == len(list((world.root / "data/train").glob("*.jpg")))
    assert "Nobody <b>else</b>" not in listed


def test_monitoring_counts_what_was_done(open_page: OpenPage, server: "Server") -> None:
    page = open_page()
    _bring(page, server.world.scenes[0])
    page.locator(".nv-region").first.wait_for()
    _open_tab(page, "Monitoring")
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text(re.compile("results|alert", re.IGNORECASE)).first.wait_for()


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_tab_is_accessible_and_fits(tab: str, width: int, dark: bool, open_page: OpenPage) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(tab, width=width, height=844 if width == 390 else 800, dark=dark)
    page.wait_for_timeout(500)
    found: dict[str, Any] = Axe().run(page).response
    serious = [
        (each["id"], [node["html"][:160] for node in each["nodes"]][:3])
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
