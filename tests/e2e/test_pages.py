"""Pages as a browser shows them."""

import html
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from bundles import tiny_bundle
from helpers import require_tool
from PIL import Image

from benchmarks.simulated_drift import GENRES, SCENARIOS, World
from marquee.report import (
    Banner,
    Card,
    Cards,
    Checks,
    Curves,
    Heatmap,
    Intervals,
    Lines,
    Links,
    Panel,
    Table,
    Tiles,
    ToDo,
    render,
    render_verdict,
)
from marquee.verdict import Check, Outcome, Severity, Verdict
from monitoring.collect import Window
from monitoring.drift import Order, drift
from monitoring.page import drift_page

CHECKS = [
    Check(
        name=f"a {severity} check of many words",
        outcome=Outcome.FAILED,
        severity=severity,
        measured="6,581 of 6,581 (100%): " + "averylongvaluewithoutaspace" * 3,
        bound="at least 200 px for 90% of them",
        blame=("tt0000001",) * 9,
        remedy="fetch larger posters",
    )
    for severity in Severity
]
PAGE = render(
    "A page <of all blocks>",
    "with & without escapes",
    [
        Banner(outcome="failed", sentence="Something is wrong."),
        Tiles(tiles=[("macro F1", "0.597", "baseline 0.467")]),
        Table(
            title="Numbers",
            columns=("name", "AP"),
            rows=[("Horror", 0.5), ("War", None)],
            bars=(1,),
        ),
        Heatmap(
            title="Matrix",
            rows=("a", "b"),
            columns=("a", "b"),
            values=((9, 1), (2, 8)),
            totals=(10, 10),
        ),
        Lines(
            title="Curve",
            x_label="epoch",
            y_label="loss",
            x=(1, 2, 3),
            series={"loss": (3.0, 2.0, 1.5)},
            mark=2,
        ),
        Intervals(
            title="Scores",
            rows=("painted blockbuster · 1,234", "War"),
            panels=dict.fromkeys(("one", "two", "three", "four"), ((0.5, 0.2, 0.7), None)),
            reference=dict.fromkeys(("one", "two", "three", "four"), (0.1, 0.1)),
            reference_name="by chance",
        ),
        Curves(title="Curves", panels=[Panel(name="a", points=((0, 1), (1, 0)))] * 7),
        Cards(
            title="Looks",
            cards=[
                Card(
                    name="Horror",
                    caption="12 posters",
                    words="Much darker, less contrast, paler, colder",
                    grid=[[1.0, -1.0]],
                    strips={"genre": (0.5, 0.5), "all": (0.2, 0.8)},
                    swatches=[("#000000", "2.0 times")] * 3,
                    listed=[("A film whose title is far too long for any card " * 3, "90%", True)],
                )
            ],
            colours=("#000000", "#ffffff"),
        ),
        ToDo(title="What to do", checks=CHECKS),
        Checks(title="All checks", groups={"images": CHECKS}),
        Links(title="Beside", links=[("Data Docs", "data_docs/index.html", "all of it")]),
    ],
)


def chromium(tmp_path: Path, page: str, *options: str) -> str:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    command = [
        *(
            require_tool("chromium"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", *options),
        (tmp_path / "page.html").as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout


def test_a_page_is_drawn_and_nothing_overflows(tmp_path):
    """Chromium lays the page out at a phone's width; its own script reports what sticks out."""
    probe = """<script>
      const wide = document.documentElement.scrollWidth > window.innerWidth;
      document.title = JSON.stringify({wide, charts: document.querySelectorAll("polyline").length});
    </script></body>"""
    page = PAGE.replace("</body>", probe)
    dom = chromium(tmp_path, page, "--window-size=500,900", "--dump-dom")
    title = dom.partition("<title>")[2].partition("</title>")[0]
    assert json.loads(title) == {"wide": False, "charts": 8}


def test_a_verdict_shows_its_colour(tmp_path):
    check = Check(name="rows", outcome=Outcome.FAILED, measured="3", bound="50", remedy="add rows")
    verdict = Verdict(gate="data", subject="catalog", checks=(check,))
    assert red_pixels(tmp_path, render_verdict(verdict)) > 200


def red_pixels(tmp_path, page):
    """Count the pixels in the colour of what failed."""
    shot = tmp_path / "shot.png"
    # Time for a frame, which is another process and may be drawn after the page is there.
    options = ("--window-size=900,700", "--virtual-time-budget=3000")
    chromium(tmp_path, page, *options, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    return (np.abs(pixels.astype(int) - (0xB3, 0x26, 0x1E)).max(axis=1) < 12).sum()


@pytest.mark.parametrize("framed", [False, True], ids=["as a file", "in the Kubeflow UI's frame"])
def test_a_drift_report_is_drawn(tmp_path, framed):
    page = drift_report(tmp_path)
    if framed:
        inside = html.escape(page, quote=True)
        page = (
            '<!doctype html><iframe sandbox="allow-scripts" '
            f'style="border: 0; width: 880px; height: 680px" srcdoc="{inside}"></iframe>'
        )
    assert red_pixels(tmp_path, page) > 200


def drift_report(folder):
    """Report on a day on which the model said Horror too often."""
    random = np.random.default_rng(0)
    profile = World().draw(5000, random).profile().to_document()
    bundle = tiny_bundle(
        folder / "bundle", genres=GENRES, label_set="all18", reference_profile=profile
    )
    drawn = World().draw(2000, random)
    SCENARIOS[1].plant(drawn, random)
    since = datetime(2026, 11, 1, tzinfo=UTC)
    window = Window(since=since, until=since + timedelta(days=1))
    drawn.write(str(folder / "records"), bundle.version, window.since, window.until)
    order = Order(
        records=str(folder / "records"),
        bundle=str(bundle.folder),
        out=str(folder / "out"),
        window=window,
        evidently=False,
    )
    return drift_page(drift(order))


def test_pages_are_escaped_and_fetch_nothing():
    assert "A page &lt;of all blocks&gt;" in PAGE
    for forbidden in ("http:", "https:", "<script", "@import", "url("):
        assert forbidden not in PAGE


def test_a_required_tool_that_is_missing_fails(monkeypatch):
    monkeypatch.setenv("MARQUEE_REQUIRE_TOOLS", "1")
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        require_tool("no-such-tool")
