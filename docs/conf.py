"Sphinx reads the notebooks in place; the API stands where it is explained."

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.chdir(ROOT)  # where settings.ini is
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
from nbdev.config import get_config  # noqa: E402

cfg = get_config()
mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / "tex-svg.js"

project, author, release, copyright = cfg.title, cfg.author, cfg.version, cfg.copyright
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "nbdev_pages"]
exclude_patterns = ["_*", "**/_*", "**.ipynb_checkpoints", "fixtures"]
nb_execution_mode = "off"  # show the outputs saved in the notebooks
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables and links in outputs, as in cells
nb_ipywidgets_js = {}  # nothing from another host
nb_code_prompt_show = "Show the source"
nb_code_prompt_hide = "Hide the source"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
add_module_names = False
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"{project} {release}"
html_static_path = ["_static", str(mathjax)]
html_css_files = ["corrmatch.css"]
html_js_files = ["corrmatch.js"]
html_favicon = "_static/favicon.svg"
html_copy_source = False  # each page has its own link to the notebook
mathjax_path = "tex-svg.js"
