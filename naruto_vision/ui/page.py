"""The page: a header with tabs; each tab is built when it is opened first."""

from collections.abc import Callable, Mapping

from fastapi import Request
from nicegui import ui

from naruto_vision.ui.context import Context, JobBar
from naruto_vision.ui.pages.automatic import AutomaticTab
from naruto_vision.ui.pages.gallery import GalleryTab
from naruto_vision.ui.pages.monitoring import MonitoringTab
from naruto_vision.ui.pages.prompts import PromptsTab
from naruto_vision.ui.pages.scene import SceneTab
from naruto_vision.ui.pages.search import SearchTab
from naruto_vision.ui.pages.video import VideoTab
from naruto_vision.ui.service import ENDED, Job, Service, Session

TABS: Mapping[str, tuple[str, Callable[[Context], object]]] = {
    "Scene": ("groups", SceneTab),
    "Search": ("image_search", SearchTab),
    "Prompts": ("touch_app", PromptsTab),
    "Automatic": ("auto_awesome", AutomaticTab),
    "Video": ("movie", VideoTab),
    "Gallery": ("photo_library", GalleryTab),
    "Monitoring": ("insights", MonitoringTab),
}
"""Name of a tab → its icon, and what builds it."""


def add_page(service: Service) -> None:
    """Add the page of a service to the application."""

    @ui.page("/", response_timeout=10)
    def index(request: Request) -> None:
        session = request.state.session
        if not isinstance(session, Session):
            ui.label(ENDED)
            return
        ui.add_head_html('<link rel="stylesheet" href="/static/style.css"><script src="/static/input.js"></script>')
        ui.colors(primary="#a83c12", secondary="#4a6572", accent="#2f6f4f")
        _build(Context(service, session))


def _build(context: Context) -> None:
    dark = ui.dark_mode(None)
    with ui.header(elevated=False).classes("nv-header items-center"):
        ui.label("naruto-vision").classes("nv-title").props("role=heading aria-level=1")
        with ui.tabs().props("dense inline-label outside-arrows mobile-arrows no-caps").classes("nv-tabs") as tabs:
            for name, (icon, _) in TABS.items():
                ui.tab(name, icon=icon)
        ui.space()
        ui.button(icon="contrast", on_click=lambda: dark.set_value(not dark.value)).props(
            'flat round dense color=white aria-label="dark or light"'
        )
    for job in [job for job in context.session.jobs.values() if not job.over]:
        _resume(context, job)
    built: set[str] = set()
    with ui.tab_panels(tabs, value="Scene", animated=False, keep_alive=True).classes("nv-panels w-full"):
        panels = {name: ui.tab_panel(name).props(f'aria-label="{name}"') for name in TABS}

    def open_tab(name: str) -> None:
        if name not in built:
            built.add(name)
            with panels[name]:
                TABS[name][1](context)
        elif name in context.on_open:
            context.on_open[name]()

    tabs.on_value_change(lambda event: open_tab(str(event.value)))
    context.open_tab = tabs.set_value
    context.is_open = lambda name: tabs.value == name
    open_tab("Scene")


def _resume(context: Context, job: Job) -> None:
    """Show a job that an earlier window of the session has started, and its files when it is over."""
    with ui.column().classes("nv-main w-full") as shown:
        bar = JobBar(context)

    def end() -> None:
        if context.service.results(context.session, job):
            with shown:
                context.downloads(job)

    context.watch(job, bar, lambda _news: None, end)
