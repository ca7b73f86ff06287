"""The tab Monitoring: times, scores, prompts, masks and sessions since the start of the server, with alerts."""

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from naruto_vision.ui.context import Context, table


class MonitoringTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        with ui.row().classes("w-full items-center gap-3"):
            ui.label("What was segmented since the server was started").classes("text-lg")
            ui.button("Refresh", icon="refresh", on_click=self.refresh).props("flat dense no-caps")
        self.view = ui.column().classes("w-full gap-3")
        context.on_open["Monitoring"] = lambda: ui.timer(0.05, self.refresh, once=True)
        ui.timer(0.05, self.refresh, once=True)

    async def refresh(self) -> None:
        """Read the numbers again."""
        found = await self.context.attempt(self.context.service.monitoring(self.context.session))
        if found is None:
            return
        self.view.clear()
        with self.view:
            self._alerts(found)
            with ui.element("div").classes("nv-cards"):
                self._times(found["summary"]["ms_by_size"], found["limits"])
                self._scores(found["summary"]["best_score"], found["limits"])
                self._prompts(found["summary"]["prompts"], found["limits"])
                self._masks(found["summary"]["masks"], found["limits"])
                self._sessions(found["summary"].get("sessions"), found["limits"])
                self._curves()

    def _alerts(self, found: Mapping[str, Any]) -> None:
        if not found["images"] and "sessions" not in found["summary"]:
            ui.label("Nothing yet: name the characters of a scene, find regions, or save a mask.").classes("nv-muted")
            return
        if not found["alerts"]:
            ui.label(f"No alert in {found['images']} results").classes("nv-card nv-good").props("role=status")
        for line in found["alerts"]:
            with ui.row().classes("nv-card nv-alert items-center no-wrap").props("role=alert"):
                ui.icon("warning").classes("text-xl")
                ui.label(line)

    def _times(self, sizes: Mapping[str, Mapping[str, float]], limits: Mapping[str, float]) -> None:
        with _card("Milliseconds of segmentation", f"alert: p95 over {limits['p95_ms']:g} ms"):
            rows = [
                (size, *(f"{row[point]:.0f}" for point in ("p50", "p95", "p99")), int(row["scenes"]))
                for size, row in sizes.items()
            ]
            table(("image", "p50", "p95", "p99", "results"), rows)

    def _scores(self, scores: Mapping[str, Any], limits: Mapping[str, float]) -> None:
        text = f"alert: median under {limits['median_score']:g}, or more than {limits['low_share']:.0%} under "
        with _card("Best estimated IoU of each result", f"{text}{limits['low_score']:g}"):
            counts, most = scores["histogram"], max(1, *scores["histogram"].values())
            bars = "".join(
                f'<rect x="{10 * index + 0.5}" y="{40 - 38 * count / most:.1f}" width="9" '
                f'height="{38 * count / most:.1f}"><title>from {edge}: {count}</title></rect>'
                for index, (edge, count) in enumerate(counts.items())
            )
            alt = ", ".join(f"from {edge}: {count}" for edge, count in counts.items() if count) or "no scores"
            svg = f'<svg class="nv-bars" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{alt}">'
            ui.html(f"{svg}{bars}</svg>", sanitize=False).classes("w-full")
            with ui.row().classes("w-full justify-between nv-muted text-sm"):
                for edge in ("0", "0.5", "1"):
                    ui.label(edge)
            _facts({"median": _number(scores["median"]), f"under {limits['low_score']:g}": _share(scores["low_share"]),
                    "results with a region": scores["images"]})  # fmt: skip

    def _prompts(self, prompts: Mapping[str, Any], limits: Mapping[str, float]) -> None:
        text = f"alert: {limits['points']:g} points or more, or over {limits['background_share']:.0%} background"
        with _card("Prompts", text):
            _facts({"points": prompts["points"], "points of a region, on average": _number(prompts["points_each"]),
                    "background points": _share(prompts["background_share"])})  # fmt: skip

    def _masks(self, masks: Mapping[str, Any], limits: Mapping[str, float]) -> None:
        text = f"alert: median share under {limits['least_area']:.0%} or over {limits['most_area']:.0%}, "
        with _card("Masks", f"{text}or over {limits['components']:g} parts"):
            _facts({"masks": masks["count"], "share of the image, median": _share(masks["area_share"]),
                    "outside of that range": masks["outside_area"], "parts, median": _number(masks["components"]),
                    "perimeter to area, median": _number(masks["perimeter_area"])})  # fmt: skip

    def _sessions(self, sessions: Mapping[str, Any] | None, limits: Mapping[str, float]) -> None:
        text = f"alert: over {limits['retry_share']:.0%} tried again, or over {limits['abandon_share']:.0%} abandoned"
        with _card("Prompt sessions", text):
            own = sessions or {"count": 0, "retry_share": None, "abandon_share": None}
            _facts({"sessions with a mask": own["count"], "tried again": _share(own["retry_share"]),
                    "abandoned, or not accepted yet": _share(own["abandon_share"])})  # fmt: skip

    def _curves(self) -> None:
        with _card("Curves of training and of the commands", "TensorBoard shows them:"):
            ui.label(f"tensorboard --logdir {self.context.service.config.logs}").classes("nv-mono")
            ui.link("http://localhost:6006", "http://localhost:6006", new_tab=True).classes("text-sm")


def _card(title: str, caption: str) -> ui.element:
    card = ui.element("div").classes("nv-card")
    with card:
        ui.label(title).classes("text-base font-medium").props("role=heading aria-level=2")
        ui.label(caption).classes("nv-muted text-sm mb-1")
    return card


def _facts(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        with ui.row().classes("w-full justify-between no-wrap"):
            ui.label(name)
            ui.label(str(value)).classes("font-medium")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
