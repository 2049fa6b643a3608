"The built site as a reader sees it, in a browser: `make docs-test` builds it first."

from pathlib import Path
import pytest
from frame import ROOT, name, notebooks

SITE, PAGES = ROOT / "docs" / "_build" / "html", [name(p) for p in notebooks()]
each = pytest.mark.parametrize("name", PAGES)
RAW = r"""() => { const out = [], walk = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const n = walk.currentNode;
    if (!n.parentElement.closest('pre, code, script, style, mjx-container') && /\$\$|\$[a-z\\][^$\n]{0,40}\$|\\\(|\\\[|\\(frac|sum|tau|begin)/.test(n.data)) out.push(n.data.slice(0, 80)) }
  return out }"""
UNRENDERED = (
    "() => [...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container') || "
    "m.querySelector('[data-mml-node=merror], mjx-merror')).map(m => m.textContent.slice(0, 80))"
)


@pytest.fixture(scope="session")
def site(serve):
    if not (SITE / "index.html").exists():
        pytest.skip(f"there is no site in {SITE.relative_to(ROOT)}: run `make docs-test`, which builds it")
    return serve(SITE)


@each
def test_a_page_is_whole(site, watch, name):
    "Maths, pictures, contrast in both modes, headings, the download; no error, no other host; on a wide window and on a telephone."
    w = watch(color_scheme="light")
    page = w.open(f"{site}/{name}.html")
    found = {
        "headings of the first level": page.locator("h1").count() - 1,
        "maths that is not rendered": page.evaluate(UNRENDERED) + page.evaluate(RAW),
        "pictures": w.bare_pictures(),
        "light": w.complaints(),
    }
    with page.expect_download() as download:
        page.locator(".download-notebook a.download").click()
    found["the download is another file"] = (
        Path(download.value.path()).read_bytes() != (ROOT / "nbs" / f"{name}.ipynb").read_bytes()
        or download.value.suggested_filename != f"{Path(name).name}.ipynb"
    )
    page.emulate_media(color_scheme="dark")
    found["dark"] = w.complaints(only=["color-contrast"])
    page.set_viewport_size({"width": 360, "height": 740})
    found |= {"wider than a telephone": w.too_wide(), "errors": w.errors, "other hosts": w.foreign}
    assert not any(found.values()), "\n".join(f"{what}: {value}" for what, value in found.items() if value)


def test_next_leads_through_all_pages_in_order(site, watch):
    w = watch()
    page = w.open(f"{site}/index.html")
    here, seen = page.locator(".sidebar-tree a.reference.internal").evaluate_all("a => a.map(x => x.pathname)"), []
    while page.locator(".next-page").count():
        page.locator(".next-page").click()
        page.wait_for_load_state()
        seen.append(page.evaluate("location.pathname"))
    assert seen == here and len(seen) == len(PAGES) - 1


def test_the_side_bar_opens_a_page(site, watch):
    page = watch().open(f"{site}/index.html")
    page.locator(".sidebar-tree").get_by_role("link", name="Propagation").first.click()
    page.wait_for_url("**/book/07_propagation.html")


def test_the_menu_opens_on_a_telephone(site, watch):
    page = watch(width=360, height=740).open(f"{site}/index.html")
    assert not page.locator(".sidebar-tree").is_visible() or page.locator(".sidebar-drawer").bounding_box()["x"] < 0
    page.locator("label.nav-overlay-icon").first.click()
    page.locator(".sidebar-tree").get_by_role("link", name="Threshold").first.click()
    page.wait_for_url("**/book/08_threshold.html")


@pytest.mark.parametrize(
    "words, leads_to",
    [("CutMix", "book/03_views"), ("propagate_regions", "book/07_propagation"), ("OHEM", "book/05_consistency")],
)
def test_search_finds(site, watch, words, leads_to):
    w = watch()
    page = w.open(f"{site}/index.html")
    page.locator("input.sidebar-search").fill(words)
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    page.wait_for_function("() => /found|finished/i.test(document.querySelector('#search-results').textContent)")
    hits = page.locator("#search-results li a").evaluate_all("a => a.map(x => x.pathname)")
    assert any(leads_to in h for h in hits), hits
    page.locator(f"#search-results li a[href*='{leads_to}']").first.click()
    page.wait_for_url(f"**/{leads_to}.html*")
    assert not w.errors and not w.foreign


def test_a_search_without_a_hit_says_so(site, watch):
    page = watch().open(f"{site}/search.html?q=xylophone")
    page.wait_for_function("() => /did not match|no results|no documents/i.test(document.body.textContent)")


def test_light_and_dark_can_be_switched(site, watch):
    page = watch(color_scheme="light").open(f"{site}/book/06_correlation.html")
    ground = lambda: page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    seen = {page.evaluate("() => document.body.dataset.theme"): ground()}
    for _ in range(2):
        page.locator(".theme-toggle:visible").first.click()
        seen[page.evaluate("() => document.body.dataset.theme")] = ground()
    assert seen["light"] != seen["dark"]
    page.evaluate("() => { document.body.dataset.theme = 'dark' }")
    assert set(page.locator("article img").evaluate_all("i => i.map(x => getComputedStyle(x).backgroundColor)")) == {
        "rgb(255, 255, 255)"
    }, "pictures keep the ground they were drawn for"


def test_code_can_be_copied(site, watch):
    page = watch(permissions=["clipboard-read", "clipboard-write"]).open(f"{site}/index.html")
    page.locator("div.highlight").first.hover()
    page.locator("button.copybtn").first.click()
    assert "make demo" in page.evaluate("() => navigator.clipboard.readText()")
