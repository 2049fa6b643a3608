"Write README.md from nbs/index.ipynb and README.zh.md from nbs/zh.md: hidden cells dropped, directives removed, links relative to the root."

import re
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DIRECTIVE = re.compile(r"^#\s*\|.*\n?", re.M)
HIDDEN = re.compile(r"^#\s*\|\s*(hide|default_exp|export|exporti)\b", re.M)
ALT = re.compile(r"^#\s*\|\s*fig-alt:\s*(.+)$", re.M)
SILENT = re.compile(r"^#\s*\|\s*echo:\s*false", re.M)
LINK = re.compile(r"""(\]\(|\bsrc=["']|\bhref=["'])(?![a-z]+:|[#/])""")
NOTE = "<!-- made from nbs/{} by `make prepare`: edit that file, not this one -->\n\n"
FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)
OTHER = {"](nbs/zh.md)": "](README.zh.md)", "](nbs/index.ipynb)": "](README.md)"}  # from one language to the other


def to_root(text: str) -> str:
    "Links as seen from the root instead of from nbs/."
    text = LINK.sub(lambda match: f"{match[1]}nbs/", text).replace("](nbs/../", "](").replace('"nbs/../', '"')
    for here, there in OTHER.items():
        text = text.replace(here, there)
    return text


def readme(root: Path = ROOT) -> dict[str, bytes]:
    "The README and its pictures: path relative to the root -> content."
    nb = nbformat.read(root / "nbs" / "index.ipynb", 4)
    nb.metadata.language_info = {"name": "python"}
    nb.cells = [c for c in nb.cells if c.cell_type != "raw" and not (c.cell_type == "code" and HIDDEN.search(c.source))]
    alts = []
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = to_root(cell.source)
            continue
        if SILENT.search(cell.source):
            cell.metadata["transient"] = {"remove_source": True}
        alts += [(ALT.findall(cell.source) or ["picture"])[0] for o in cell.outputs if "image/png" in o.get("data", {})]
        cell.source = DIRECTIVE.sub("", cell.source)
        for html in (o.data for o in cell.outputs if "text/html" in o.get("data", {})):
            html["text/html"] = re.sub(r"<style.*?</style>\s*", "", html["text/html"], flags=re.S)
    text, resources = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": "index_files"})
    text, files = re.sub(r" *!\[png\]", lambda _: f"![{alts.pop(0)}]", text), {}
    for number, (old, content) in enumerate(resources["outputs"].items(), 1):
        new = f"index_files/picture_{number}.png"  # a name that stays when cells move
        text, files[new] = text.replace(old, new), content
    chinese = FRONT.sub("", (root / "nbs" / "zh.md").read_text(encoding="utf-8"))
    whole = {
        "README.md": NOTE.format("index.ipynb") + re.sub(r"\n{3,}", "\n\n", text).strip(),
        "README.zh.md": NOTE.format("zh.md") + to_root(chinese).strip(),
    }
    return {name: (content + "\n").encode() for name, content in whole.items()} | files


def write(root: Path = ROOT):
    "Write the files and remove pictures that are no longer used."
    files = readme(root)
    for old in (root / "index_files").glob("*"):
        if old.relative_to(root).as_posix() not in files:
            old.unlink()
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    write()
