"Rules of the house: what the layout promises, drawn from the sources themselves."

import ast
import re
from collections import defaultdict
from pathlib import Path
from corrmatch import testing
from frame import ROOT, cells, notebooks


# helpers: what stands on two pages lives in corrmatch.testing


def code(path: Path) -> list[str]:
    "The cells of a page that are not exported; a module of tests is one cell."
    if path.suffix == ".py":
        return [path.read_text(encoding="utf-8")]
    return [c.source for c in cells(path) if c.cell_type == "code" and not re.search(r"^#\|\s*export", c.source, re.M)]


def _parameters(args: ast.arguments) -> list[str]:
    return [a.arg for a in (*args.args, *args.kwonlyargs, args.vararg, args.kwarg) if a]


def helpers(source: str) -> list[tuple]:
    "Functions (also named lambdas) and classes that a cell defines, with their parameters; no tests, no fixtures."
    found = []
    for node in ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.M)).body:
        lambdas = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and len(node.targets) == 1
        if isinstance(node, ast.ClassDef):
            found.append((node.name,))
        elif isinstance(node, ast.FunctionDef) and not re.search(
            r"^test_|fixture", " ".join([node.name, *map(ast.unparse, node.decorator_list)])
        ):
            found.append((node.name, *_parameters(node.args)))
        elif lambdas and isinstance(node.targets[0], ast.Name):
            found.append((node.targets[0].id, *_parameters(node.value.args)))
    return found


def twice(pages: dict[str, list[str]], shared: set[str]) -> list[str]:
    "Helpers with one name and the same parameters on several pages, and those that are shared and yet defined."
    where = defaultdict(set)
    for page, sources in pages.items():
        for source in sources:
            for name, *parameters in helpers(source):
                where[name if name in shared else f"{name}({', '.join(parameters)})"].add(page)
    return [f"{name}: {sorted(pages)}" for name, pages in where.items() if len(pages) > 1 or name in shared]


def test_no_helper_is_defined_on_two_pages():
    files = [*notebooks(), *sorted((ROOT / "tests").glob("*.py"))]
    found = twice({p.relative_to(ROOT).as_posix(): code(p) for p in files}, set(testing.__all__))
    assert not found, "move it to nbs/reference/testing.ipynb, and import it from there:\n" + "\n".join(found)


def test_a_second_definition_would_be_found():
    one, other = "def f(a, b=1):\n    return a", "f = lambda a, b: b"
    assert twice({"x": [one], "y": [other]}, set()) == ["f(a, b): ['x', 'y']"]
    assert twice({"x": ["class A: pass"], "y": ["class A(B): pass"]}, set())
    assert twice({"x": ["def refuses(): pass"]}, {"refuses"})
    assert not twice({"x": [one, other], "y": ["def f(other): pass", "def test_f(a, b): pass"]}, {"g"})
