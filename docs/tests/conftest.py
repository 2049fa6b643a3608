"A browser, a small web server, and a page that notes what goes wrong while it is looked at."

import functools
import os
import re
import shutil
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
RULES = [
    "color-contrast",
    "image-alt",
    "svg-img-alt",
    "heading-order",
    "page-has-heading-one",
    "document-title",
    "html-has-lang",
    "link-name",
    "button-name",
    "label",
    "duplicate-id-aria",
    "aria-valid-attr",
    "aria-roles",
    "list",
    "td-headers-attr",
    "scrollable-region-focusable",
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def browser():
    "Headless Chromium: the installed one, or the one that `python -m playwright install chromium` fetches."
    sync = pytest.importorskip("playwright.sync_api", reason="these tests need playwright: make docs-test installs it")
    found = os.environ.get("CORRMATCH_BROWSER") or next((p for name in BROWSERS if (p := shutil.which(name))), None)
    with sync.sync_playwright() as p:
        if not found and not Path(p.chromium.executable_path).exists():
            pytest.skip(
                "no browser: install Chromium or Chrome, name one in CORRMATCH_BROWSER, or run "
                "`.venv/bin/python -m playwright install chromium`"
            )
        chrome = p.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chrome
        chrome.close()


@pytest.fixture(scope="session")
def serve():
    "Serve a folder on this machine: folder -> address."
    servers = []

    def start(folder) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown(), server.server_close()


@dataclass
class Watch:
    "A page of the browser, and what it complained of."

    page: object
    errors: list = field(default_factory=list)  # console errors, exceptions, missing files
    foreign: list = field(default_factory=list)  # requests to another host (they are refused)

    def __post_init__(self):
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("response", lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.route(re.compile(".*"), self.local)

    def local(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("data", "blob", "file") or parts.hostname in ("127.0.0.1", "localhost"):
            return route.continue_()
        self.foreign.append(route.request.url)
        route.abort()

    def open(self, url):
        self.page.goto(url, wait_until="load")
        self.page.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise }")
        return self.page

    def bare_pictures(self) -> list:
        "Pictures that did not load, or have no alternative text."
        return self.page.evaluate(
            "() => [...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth || "
            "!i.alt.trim()).map(i => i.src.slice(0, 100))"
        )

    def too_wide(self) -> list:
        "What reaches beyond the window and does not scroll by itself."
        return self.page.evaluate("""() => [...document.querySelectorAll('article *, body > main *')].filter(e => {
          if (!e.getClientRects().length || e.getBoundingClientRect().right <= innerWidth + 1) return false;
          for (let p = e; p && !/^(ARTICLE|MAIN)$/.test(p.tagName); p = p.parentElement)
            if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX) || getComputedStyle(p).position == 'absolute') return false;
          return true }).map(e => e.outerHTML.slice(0, 100)).slice(0, 5)""")

    def complaints(self, only=RULES) -> list:
        "What axe finds: contrast, alternative texts, order of headings, names of links and fields."
        sync = pytest.importorskip(
            "axe_playwright_python.sync_playwright",
            reason="these tests need axe-playwright-python: make docs-test installs it",
        )
        # thousands of shapes in formulas and of words in code, all of the same few colours, would take axe minutes
        self.page.evaluate(
            "() => { document.querySelectorAll('mjx-container').forEach(e => e.remove()); "
            "[...document.querySelectorAll('div.highlight')].slice(6).forEach(e => e.remove()) }"
        )
        found = (
            sync.Axe()
            .run(self.page, options={"runOnly": list(only), "resultTypes": ["violations"]})
            .response["violations"]
        )
        return [
            f"{v['id']}: {n['html'][:110]} {(n['any'] or n['all'] or n['none'])[0]['message'][:170]}"
            for v in found
            for n in v["nodes"][:4]
        ]


@pytest.fixture
def watch(browser):
    "Open a page: keyword arguments are those of a browser's context (viewport, color_scheme)."
    contexts = []

    def start(width=1280, height=900, **options) -> Watch:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        contexts[-1].set_default_timeout(60_000)
        return Watch(contexts[-1].new_page())

    yield start
    for context in contexts:
        context.close()
