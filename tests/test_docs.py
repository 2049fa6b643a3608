"The site builds without a warning, every page is complete, every link resolves, and nothing comes from another host."

import re
import subprocess
import sys
from importlib import import_module
from urllib.parse import unquote, urlsplit
import pytest
from corrmatch.testing import Page
from frame import ROOT, cells, module_of, name, notebooks

pytest.importorskip("myst_nb", reason="the tools for the site need Python 3.11")
each = pytest.mark.parametrize("path", notebooks(), ids=name)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    "The folder of the site, and what Sphinx complained about (with --keep-going the pages are made all the same)."
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-d",
        str(tmp_path_factory.mktemp("doctrees")),
        "-c",
        "docs",
        "nbs",
        str(out),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return out, result.returncode, (result.stdout[-3000:] + result.stderr[-6000:]).strip()


@pytest.fixture(scope="module")
def site(build):
    if not (build[0] / "index.html").exists():
        pytest.skip("there is no site: see test_the_site_builds_without_a_warning")
    return build[0]


@pytest.fixture(scope="module")
def parsed(site):
    return {p.relative_to(site).as_posix(): Page(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}


def test_the_site_builds_without_a_warning(build):
    if build[1]:
        pytest.fail(build[2], pytrace=False)


def local(url):
    return not urlsplit(url).scheme and not url.startswith("//")


@each
def test_a_page_stands_for_the_notebook_and_offers_it(site, parsed, path):
    offered = [
        link for link in parsed[f"{name(path)}.html"].links if "_downloads/" in link and link.endswith(f"/{path.name}")
    ]
    assert offered, "no link to download the notebook"
    assert ((site / f"{name(path)}.html").parent / unquote(offered[0])).read_bytes() == path.read_bytes()


@each
def test_the_page_shows_no_directive_and_every_public_name(site, path):
    html = (site / f"{name(path)}.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", html)
    assert not re.search(r"^#\s?\|", text, re.M) and "nbdev_export" not in text
    exported = "\n".join(
        c.source for c in cells(path) if c.cell_type == "code" and re.match(r"#\s*\|\s*export\b", c.source)
    )
    defined = set(re.findall(r"^(?:async )?(?:def|class) (\w+)", exported, re.M))
    module = f"corrmatch.{module_of(path)}".removesuffix(".__init__")
    for public in defined & set(getattr(import_module(module), "__all__", []) if defined else []):
        assert f'id="{module}.{public}"' in html, f"{public} has no entry"


def test_the_side_bar_lists_the_pages_in_reading_order(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    listed = re.findall(r'<li class="toctree-l1[^"]*"><a class="reference internal" href="([^"#]+)\.html"', html)
    assert sorted(listed) == sorted(name(p) for p in notebooks() if name(p) != "index")
    order = ["evening", "book", "methods", "howto", "paper", "reference", "glossary"]
    assert list(dict.fromkeys(page.split("/")[0] for page in listed)) == order
    book = [page for page in listed if page.startswith("book/")]
    assert book == sorted(book) and listed[1 + len(book)] == "methods/index"
    captions = re.findall(r'<p class="caption"[^>]*><span class="caption-text">([^<]+)<', html)
    assert captions == ["Start", "Book", "Methods", "How-to", "Paper", "Reference", "Glossary"]


def test_every_link_within_the_site_resolves(site, parsed):
    missing = []
    for here, page in parsed.items():
        for link in filter(local, page.links):
            parts = urlsplit(link)
            target = (site / here).parent.joinpath(unquote(parts.path)).resolve() if parts.path else site / here
            inside = target.relative_to(site.resolve()).as_posix() if target.is_relative_to(site.resolve()) else ""
            if not target.exists():
                missing.append(f"{here}: {link}")
            elif parts.fragment and inside in parsed and unquote(parts.fragment) not in {*parsed[inside].ids, ""}:
                missing.append(f"{here}: {link}")
    assert not missing, missing[:20]


def test_nothing_is_loaded_from_another_host(parsed):
    assert not [
        (here, url)
        for here, page in parsed.items()
        for url in page.loads
        if not local(url) and not url.startswith("data:")
    ]


def test_maths_is_rendered_by_a_file_of_the_site(site):
    assert (site / "_static" / "tex-svg.js").stat().st_size > 10**6


def test_every_picture_has_an_alternative_text(parsed):
    told = lambda page: [a.get("alt", "") for tag, a in page.tags if tag == "img"]
    bare = [
        here
        for here, page in parsed.items()
        if not here.startswith("_modules") and not all(alt and "/" not in alt for alt in told(page))
    ]
    assert any(map(told, parsed.values()))
    assert not bare
