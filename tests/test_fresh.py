"What a notebook has saved is what a fresh run shows, up to timings. All notebooks: `make drill`, or `python tests/fresh.py`."

import nbformat
import pytest
from fresh import compare
from frame import name, notebooks
from nbformat.v4 import new_code_cell, new_notebook, new_output


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    "A notebook whose saved outputs are right, wrong, missing, timed and skipped."
    said = lambda text: [new_output("stream", name="stdout", text=text)]
    plot = "from matplotlib import pyplot as plt; plt.figure(figsize=(1, 1)); plt.plot([0, 1]); plt.show()"
    cells = [
        new_code_cell("print(6 * 7)", outputs=said("42\n")),
        new_code_cell("print(6 * 7)", outputs=said("41\n")),
        new_code_cell("print('new')"),
        new_code_cell(
            "# timing: this output differs from run to run\nimport time; print(time.time())", outputs=said("0\n")
        ),
        new_code_cell("#| slow\nraise SystemExit", outputs=said("long\n")),
        new_code_cell(plot),
    ]
    path = tmp_path_factory.mktemp("nb") / "made.ipynb"
    nbformat.write(
        new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
        ),
        path,
    )
    return compare(path)


def test_what_is_the_same_passes_and_what_differs_is_named(wrong):
    assert [line.split(":")[0] for line in wrong] == ["made.ipynb, cell 1", "made.ipynb, cell 2", "made.ipynb, cell 5"]
    assert "saved '41', now '42'" in wrong[0] and "now 'new'" in wrong[1] and "pictures of [] were saved" in wrong[2]


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[] if name(p) == "glossary" else [pytest.mark.slow]) for p in notebooks()], ids=name
)
def test_a_fresh_run_shows_what_was_saved(path):
    found = compare(path)
    assert not found, "\n".join(["run the notebook from top to bottom and save it", *found])
