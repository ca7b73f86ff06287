"""Screenshots of the web application for docs/ui.md: each tab with drawn examples, on a desk and on a phone.

``PYTHONPATH=tests python -m benchmarks.screenshots --out docs/images/ui`` (needs Chromium)
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
WIDE, NARROW = (1280, 800), (390, 844)


def _example(page: Page) -> None:
    page.get_by_role("button", name="name the characters of").first.wait_for(timeout=180_000)
    page.get_by_role("button", name="name the characters of").first.click()
    page.locator(".nv-region").first.wait_for()
    page.get_by_text(": done").first.wait_for()


def _scene(page: Page) -> None:
    page.locator(".nv-region").last.dispatch_event("pointerdown")
    page.get_by_text("evidence in the nearest entry").wait_for(timeout=120_000)


def _search(page: Page) -> None:
    page.get_by_label("Search by text").fill("a girl with pink hair")
    page.get_by_label("Search by text").press("Enter")
    page.get_by_text("texts have no threshold").first.wait_for()


def _prompts(page: Page) -> None:
    image = page.locator(".nv-stage:visible img").first
    image.wait_for()
    page.get_by_text("no prompts").wait_for()
    image.scroll_into_view_if_needed()
    box = image.bounding_box() or {}
    for x, y in ((0.76, 0.36), (0.76, 0.62)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.wait_for_timeout(700)


def _automatic(page: Page) -> None:
    page.get_by_role("button", name="Find the regions").click()
    page.locator(".nv-region:visible").first.wait_for()
    page.get_by_text("done").last.wait_for()
    page.wait_for_timeout(2500)


def _video(page: Page) -> None:
    page.get_by_label("from the server's folder").locator("visible=true").first.click()
    page.get_by_role("option", name="video_000.mp4").click()
    page.get_by_text("done").last.wait_for(timeout=120_000)
    page.get_by_label("What happens, or who is seen").fill("a girl with pink hair in a red jacket")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("[aria-label^='play at ']:visible").first.wait_for()


def _gallery(page: Page) -> None:
    page.get_by_text("people,").first.wait_for()


def _monitoring(page: Page) -> None:
    page.get_by_role("button", name="Refresh").click()


TABS: Mapping[str, Callable[[Page], None]] = {
    "Scene": _scene, "Search": _search, "Prompts": _prompts, "Automatic": _automatic, "Video": _video,
    "Gallery": _gallery, "Monitoring": _monitoring,
}  # fmt: skip


def shoot(address: str, out: Path) -> None:
    """Go through all tabs at both sizes, light on the desk and dark on the phone."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for kind, (width, height), theme in (("wide", WIDE, "light"), ("narrow", NARROW, "dark")):
            options: dict[str, Any] = {"viewport": {"width": width, "height": height}, "color_scheme": theme}
            page = browser.new_context(**options).new_page()
            page.set_default_timeout(60_000)
            page.goto(address)
            _example(page)
            for name, prepare in TABS.items():
                page.get_by_role("tab", name=name).click()
                prepare(page)
                page.wait_for_timeout(800)
                page.evaluate("document.activeElement.blur()")
                page.screenshot(path=out / f"{name.lower()}_{kind}.jpg", type="jpeg", quality=80)
        browser.close()


def main() -> None:
    """Start a server with the examples, and write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/ui"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "naruto_vision", "ui", "--demo", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            shoot(next(word for word in line.split() if word.startswith("http")), out)
        finally:
            server.terminate()
            time.sleep(1)


if __name__ == "__main__":
    main()
