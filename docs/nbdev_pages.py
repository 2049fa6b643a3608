"A Sphinx extension: nbdev notebooks become pages, and what an exported cell defines gets its API entry where it stands."

import ast
import importlib
import inspect
import re
from pathlib import Path
import nbformat
from fastcore.docments import docments
from nbformat.v4 import new_markdown_cell
from pages import minutes, only_setup

ROOT = Path(__file__).resolve().parents[1]
NBS, PACKAGE = ROOT / "nbs", "corrmatch"
DIRECTIVE = re.compile(r"^#\s*\|\s*([\w-]+):?[ \t]*(.*?)[ \t]*$\n?", re.M)
DROPPED = {"hide", "default_exp", "exporti", "export_hidden"}
HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.M)


def pages() -> list[str]:
    "All notebooks in reading order, without the index."
    found = (p.relative_to(NBS) for p in NBS.rglob("*.ipynb"))
    names = [p.with_suffix("").as_posix() for p in found if not any(part[0] in "_." for part in p.parts)]
    return sorted((n for n in names if n != "index"), key=lambda n: (n.count("/"), not n[0].isdigit(), n))


# caption of the side bar -> where its pages lie
PARTS = {
    "Start": "",
    "Book": "book/",
    "Methods": "methods/",
    "How-to": "howto/",
    "Paper": "paper/",
    "Reference": "reference/",
}


def parts() -> dict[str, list[str]]:
    "The side bar: the pages part by part, in reading order, a part's own index first; the glossary closes it."
    found = {
        caption: [page for page in pages() if page.rpartition("/")[0] == folder.rstrip("/") and page != "glossary"]
        for caption, folder in PARTS.items()
    }
    found = {caption: sorted(names, key=lambda n: not n.endswith("index")) for caption, names in found.items() if names}
    return found | {"Glossary": ["glossary"]}


def dotted(name: str) -> str:
    "A module as it is imported; a page that exports to `part.__init__` makes the package itself."
    return f"{PACKAGE}.{name}".removesuffix(".__init__")


def modules() -> list[str]:
    "Every module and package of the package but the generated index."
    found = (p.relative_to(ROOT / PACKAGE).with_suffix("") for p in sorted((ROOT / PACKAGE).rglob("*.py")))
    return [dotted(".".join(p.parts)) for p in found if p.name != "_modidx"]


def source_of(module: str) -> Path:
    "The file of a module or a package."
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def patched_class(node, module):
    "The class that a function decorated with fastcore's patch is added to, as (module, name)."
    names = [getattr(d, "id", getattr(getattr(d, "func", None), "id", "")) for d in node.decorator_list]
    if not {"patch", "patch_to"} & set(names) or not node.args.args or node.args.args[0].annotation is None:
        return None
    cls = getattr(importlib.import_module(module), ast.unparse(node.args.args[0].annotation).strip("'\""), None)
    return (cls.__module__, cls.__qualname__) if inspect.isclass(cls) else None


def entry(node, module, patched):
    "The autodoc directive for one top-level definition, or nothing."
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if owner := patched_class(node, module):
            return [f".. automethod:: {'.'.join(owner)}.{node.name}"]
        kind = "autofunction"
    elif isinstance(node, ast.ClassDef):
        kind = "autoclass"
    else:
        return None
    obj = getattr(importlib.import_module(module), node.name, None)
    if node.name.startswith("_") or getattr(obj, "__module__", module) != module:
        return None
    if kind == "autofunction" or not inspect.isclass(obj):
        return [f".. autofunction:: {module}.{node.name}"] if callable(obj) else None
    # shown in their own cell; fields of a named tuple
    elsewhere = patched.get((module, node.name), []) + list(getattr(obj, "_fields", ()))
    return [f".. autoclass:: {module}.{node.name}", "   :members:"] + (
        [f"   :exclude-members: {', '.join(elsewhere)}"] if elsewhere else []
    )


def api(source: str, module: str, patched: dict, seen: set) -> str:
    "The directives for everything that an exported cell defines; a name defined twice is indexed once."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return ""  # a cell with IPython magic
    blocks = [b for node in body if (b := entry(node, module, patched))]
    for block in blocks:
        if block[0] in seen:
            block.append("   :no-index:")
        seen.add(block[0])
    return "\n\n".join("\n".join(block) for block in blocks)


def tag(cell, *names):
    cell.metadata["tags"] = sorted({*cell.metadata.get("tags", []), *names})


def rewrite(nb, docname: str, patched: dict):
    "Turn one notebook, in place, from nbdev's spelling into MyST-NB's."
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    cells, module, seen, heading, length = [], None, set(), docname, minutes(nb.cells)
    for cell in nb.cells:
        if cell.cell_type != "code":
            if found := HEADING.findall(cell.source):
                heading = found[-1]
            cells.append(cell)
            continue
        marks, look = dict(DIRECTIVE.findall(cell.source)), {}
        module = dotted(marks["default_exp"]) if "default_exp" in marks else module
        cell.source = DIRECTIVE.sub("", cell.source).strip("\n")
        if DROPPED & set(marks) or not cell.source or re.match(r"show_doc\(", cell.source):
            continue
        if "export" in marks:
            target = dotted(marks["export"]) if marks["export"] else module
            if target and (found := api(cell.source, target, patched, seen)):
                cells.append(new_markdown_cell(f"````{{eval-rst}}\n{found}\n````"))
                tag(cell, "hide-input")
        if marks.get("echo") == "false":
            tag(cell, "remove-input")
        elif marks.get("code-fold") == "true":
            tag(cell, "hide-input")
        elif only_setup(cell.source):
            tag(cell, "hide-input")
            if "import " in cell.source:
                look["code_prompt_show"], look["code_prompt_hide"] = "Show the imports", "Hide the imports"
        if any(kind.startswith("image/") for o in cell.outputs for kind in o.get("data", {})):
            look["image"] = {"alt": marks.get("fig-alt") or f"Picture in the section “{re.sub(r'[`*$]', '', heading)}”"}
        if look:
            cell.metadata["mystnb"] = look
        cells.append(cell)
    name = docname.rsplit("/", 1)[-1]
    glossary = "../" * docname.count("/") + "glossary.ipynb"
    words = "" if name == "glossary" else f" A word that is new? [Glossary]({glossary})."
    time = f"Reading time: {length} minutes. " if length > 1 and docname != "index" else ""
    link = new_markdown_cell(
        f":::{{container}} download-notebook\n{time}{{download}}`Download this notebook "
        f"<{name}.ipynb>`, or open them all with `make lab`.{words}\n:::"
    )
    cells.insert(1 if docname != "index" else len(cells), link)
    if docname == "index":
        for caption, names in parts().items():
            cells.append(
                new_markdown_cell("```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(names) + "\n```")
            )
    nb.cells = cells
    lengths = [cell.source.count("\n") + 1 for cell in cells]
    # else MyST-NB pads cell i with 10,000 i empty lines
    nb.metadata["source_map"] = [sum(lengths[:i]) for i in range(len(cells))]


def read_page(app, docname, content):
    "Rewrite a notebook before it is parsed."
    if not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    nb = nbformat.reads(content[0], as_version=4)
    rewrite(nb, docname, app.patched)
    content[0] = nbformat.writes(nb)


def import_all(app):
    "Import every module first, so that methods patched in by a later one are seen, and note which methods those are."
    app.patched = {}
    for module in modules():
        importlib.import_module(module)
        for node in ast.parse(source_of(module).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (owner := patched_class(node, module)):
                app.patched.setdefault(owner, []).append(node.name)


def plain(text: str) -> str:
    "One docstring line as reST: code in back-ticks stays code, nothing else is markup."
    parts = re.split(r"(`+[^`]+`+)", text)
    return "".join(
        f"\\ ``{p.strip('`')}``\\ " if i % 2 else re.sub(r"([*|\\_`])", r"\\\1", p) for i, p in enumerate(parts)
    )


def describe(app, what, name, obj, options, lines):
    "Docstrings as plain text; comments beside parameters become their descriptions."
    if not name.startswith(f"{PACKAGE}."):
        return
    # the docstring that dataclass makes up
    if what == "class" and (obj.__doc__ or "").startswith(f"{obj.__name__}("):
        lines.clear()
    lines[:] = [plain(line) for line in lines]
    if what not in ("function", "method", "class"):
        return
    try:
        found = docments(obj, full=True)
    except Exception:
        return  # nothing to read, as for a named tuple
    lines.append("")
    for par, info in found.items():
        if comment := getattr(info, "docment", None):
            lines.append(
                f":{'returns' if par == 'return' else f'param {par}'}: " + plain(" ".join(str(comment).split()))
            )


def setup(app):
    app.connect("builder-inited", import_all)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
