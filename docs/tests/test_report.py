"`corrmatch report` in a browser: one file that needs nothing else, on a wide window and on a telephone, light and dark."

import subprocess
import sys
import pytest


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    "The report of a very short run on the toy dataset."
    here = tmp_path_factory.mktemp("report")
    corrmatch = lambda *words: subprocess.run(
        [sys.executable, "-m", "corrmatch", *words], cwd=here, check=True, capture_output=True
    )
    corrmatch("train", "toy", "--steps", "6", "--log-every", "1", "--name", "short", "--system.device", "cpu")
    corrmatch("report", "runs/short", "--out", "alone/report.html", "--images", "2", "--device", "cpu")
    return (here / "alone" / "report.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_is_whole(report, watch, width, scheme):
    w = watch(width=width, height=800, color_scheme=scheme)
    page = w.open(report)
    assert not w.too_wide()
    assert not w.bare_pictures() and page.locator("img").count() > 10 and page.locator("svg[role=img]").count() == 3
    found = w.complaints()
    assert not found, "\n".join(found)
    assert not w.errors and not w.foreign


def test_it_has_its_parts_and_its_links_lead_to_them(report, watch):
    page = watch().open(report)
    links = page.locator("nav a").all_inner_texts()
    assert {"Settings", "Versions", "Curves", "Classes", "Best and worst images", "Pseudo labels", "Time"} <= set(links)
    for text in links:
        page.locator("nav a", has_text=text).first.click()
        assert page.locator("h2", has_text=text).first.is_visible()
    assert page.locator("td.bar").count() == 6, "a bar for each class of the toy"


def test_it_asks_for_nothing_but_itself(report, watch):
    w, asked = watch(), []
    w.page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    w.open(report)
    assert asked == [report]
