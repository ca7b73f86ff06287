"""The report of an image: title, models, rule, numbered items with source, point, box and description."""

from naruto_vision.prompting.report import ReportItem, analysis_report


def test_a_report_has_title_models_rule_and_numbered_items() -> None:
    items = [
        ReportItem((1, 2, 30, 40), "contour", (12.0, 20.5), "a girl\nwith pink hair"),
        ReportItem((5, 5, 6, 6), "grid", None, ""),
    ]
    assert analysis_report("a/b.jpg", ["segmented by tiny-sam"], items, ["D1 is left of D2"]).splitlines() == [
        "Deep Analysis Report for Image: a/b.jpg",
        "segmented by tiny-sam",
        "=" * 70,
        "",
        "--- Item 1 (Source: contour) ---",
        "  Point of Interest: (12, 20.5)",
        "  Bounding Box (x1,y1,x2,y2): [1, 2, 30, 40]",
        "  Description:",
        "    a girl",
        "    with pink hair",
        "",
        "--- Item 2 (Source: grid) ---",
        "  Bounding Box (x1,y1,x2,y2): [5, 5, 6, 6]",
        "  Description:",
        "    (no description)",
        "",
        "D1 is left of D2",
    ]


def test_a_report_of_no_regions_says_so() -> None:
    last = analysis_report("b.png", [], []).splitlines()[-1]
    assert last == "No significant objects or regions were identified for analysis."


def test_a_description_cannot_move_the_cursor() -> None:
    assert "\x1b" not in analysis_report("b\x1b.png", [], [ReportItem((0, 0, 1, 1), description="red \x1b[31mhat")])
