"Rules of the house: what the layout promises, drawn from the sources themselves."

import ast
import re
from collections import defaultdict
from pathlib import Path
from corrmatch import testing
from frame import PACKAGE, ROOT, cells, notebooks


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


LAYERS = (
    "settings",
    "nn",
    "data",
    "models",
    "methods",
    "engine",
    "recipes",
    "viz",
    "extras",
    "cli",
    "__main__",
    "testing",
)
ENTRANCES = {"", "__main__"}  # the front door looks names up when they are used
KNOWN_TWICE = {"main"}


def modules() -> dict[str, ast.Module]:
    "Dotted name inside the package -> its syntax tree."
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name != "_modidx.py":
            dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
            found[dotted] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported_by(name: str, tree: ast.Module, is_package: bool) -> set[str]:
    "Modules of the package that a module imports, at the top or inside a function."
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = name.split(".") if name else []
            base = parts[: len(parts) + is_package - node.level]
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found |= {target} if node.module else {".".join(filter(None, [target, a.name])) for a in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("corrmatch"):
            found.add(node.module.removeprefix("corrmatch").lstrip("."))
    return found


def climbs(name: str, targets: set[str]) -> list[str]:
    "Imports of modules that lie in a later layer than the importing one."
    floor = lambda module: LAYERS.index(module.split(".")[0])
    return [f"{name} imports {t}" for t in sorted(targets) if t not in ENTRANCES and floor(t) > floor(name)]


def test_nothing_imports_upward():
    found = []
    for name, tree in modules().items():
        if name not in ENTRANCES:
            package = (PACKAGE / name.replace(".", "/") / "__init__.py").exists()
            found += climbs(name, imported_by(name, tree, package))
    assert not found, "\n".join(found)


def test_an_upward_import_would_be_seen():
    tree = ast.parse("from ..engine.trainer import train")
    assert climbs("data.toy", imported_by("data.toy", tree, False)) == ["data.toy imports engine.trainer"]
    assert not climbs("extras.demo", imported_by("extras.demo", tree, False))


def test_the_engine_names_no_method():
    from corrmatch.methods import methods

    for name, tree in modules().items():
        if name.split(".")[0] == "engine":
            used = {t for t in imported_by(name, tree, False) if t.startswith("methods.")} - {"methods.base"}
            assert not used, f"{name} imports {', '.join(used)}"
            texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            assert not texts & (set(methods()) - {"corrmatch"}), f"{name} names {texts & set(methods())}"


def public(tree: ast.Module) -> list:
    "Public functions and classes that a module defines."
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]


def test_public_names_stand_once():
    places = {}
    for name, tree in modules().items():
        for node in public(tree):
            places.setdefault(node.name, []).append(name)
    twice = {n: where for n, where in places.items() if len(where) > 1 and n not in KNOWN_TWICE}
    assert not twice, "\n".join(f"{n}: {', '.join(where)}" for n, where in twice.items())


def test_public_names_have_a_line_of_documentation():
    bare = [f"{name}.{n.name}" for name, tree in modules().items() for n in public(tree) if not ast.get_docstring(n)]
    assert not bare, ", ".join(bare)
