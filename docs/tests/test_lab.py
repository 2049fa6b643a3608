"JupyterLab as a reader uses it: a fresh clone, the installed kernel, Run > Run All Cells, in a browser."

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import nbformat
import pytest
from fresh import difference, may_differ, sliders
from frame import ROOT, name, notebooks

QUICK = {"reference/config", "evening"}  # the others are marked slow
PAGES = [pytest.param(name(p), marks=[] if name(p) in QUICK else [pytest.mark.slow]) for p in notebooks()]
STATE = """() => { const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type == 'code' && c.sharedModel.getSource().trim());
  return { cells: cells.length, done: cells.filter(c => c.executionCount != null).length, busy: cells.some(c => c.executionState == 'running' || c.sharedModel.executionState == 'running'),
           error: cells.flatMap((c, i) => c.sharedModel.outputs.filter(o => o.output_type == 'error').map(o => `cell ${i}: ${o.ename}: ${o.evalue}`))[0] || '' } }"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    "JupyterLab at the root of a clone; its address."
    pytest.importorskip("jupyterlab", reason="these tests need JupyterLab: make dev")
    clone = tmp_path_factory.mktemp("lab") / "corrmatch"
    if not (ROOT / ".git").exists():
        shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".venv", "_build", "runs", ".git"))
    else:
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    env = os.environ | {
        "PYTHONPATH": str(clone),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
        "--allow-root",
    ]
    server = subprocess.Popen(command, cwd=clone, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api")
            break
        except OSError:
            time.sleep(0.5)
        if server.poll() is not None:
            pytest.fail("JupyterLab did not start")
    yield address, clone
    server.terminate()
    server.wait(30)


def a_slider_redraws(page, index):
    page.evaluate("i => window.jupyterapp.shell.currentWidget.content.scrollToItem(i, 'start')", index)
    cell = page.locator(f'.jp-NotebookPanel:visible .jp-Cell[data-windowed-list-index="{index}"]')
    picture = cell.locator("img").first
    before = picture.get_attribute("src")
    cell.locator(".noUi-handle").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([i, old]) => { const p = document.querySelector(`.jp-NotebookPanel:not(.lm-mod-hidden) "
        '.jp-Cell[data-windowed-list-index="${i}"] img`); return p && p.src != old }',
        arg=[index, before],
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_notebook_runs_from_top_to_bottom(lab, watch, name):
    address, clone = lab
    w = watch(width=1400)
    w.page.set_default_timeout(120_000)
    w.page.goto(f"{address}/lab/tree/nbs/{name}.ipynb?reset")
    w.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.content?.model?.cells?.length > 1")
    w.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == 'idle'"
    )
    w.page.get_by_role("menuitem", name="Run", exact=True).click()
    w.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    end = time.time() + 900
    while time.time() < end:
        time.sleep(1)
        state = w.page.evaluate(STATE)
        assert not state["error"], state["error"]
        if state["done"] == state["cells"] and not state["busy"]:
            break
    assert state["done"] == state["cells"], f"{state['done']} of {state['cells']} cells ran in 900 s"
    w.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    committed, saved = (
        nbformat.read(ROOT / "nbs" / f"{name}.ipynb", 4),
        nbformat.read(clone / "nbs" / f"{name}.ipynb", 4),
    )
    assert not [o for c in saved.cells for o in c.get("outputs", []) if o["output_type"] == "error"]
    told = {
        i: difference(a, b)
        for i, (a, b) in enumerate(zip(committed.cells, saved.cells))
        if a.cell_type == "code" and not may_differ(a)
    }
    assert not any(told.values()), {i: t for i, t in told.items() if t}
    moving = [i for i, c in enumerate(saved.cells) if c.cell_type == "code" and sliders(c)]
    assert len(moving) == (2 if name == "evening" else 0)
    for i in moving:
        a_slider_redraws(w.page, i)
    w.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert not w.foreign


def test_the_kernel_is_that_of_the_environment(lab):
    specs = json.load(urllib.request.urlopen(f"{lab[0]}/api/kernelspecs"))
    assert specs["default"] == "python3" and "python3" in specs["kernelspecs"]
