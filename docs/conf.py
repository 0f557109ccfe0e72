"""How Sphinx builds the site: ``make docs``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

import potstill  # noqa: E402

# The gallery computes: as the command line does, and with nothing kept from one build to the next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("POTSTILL_CACHE", str(HERE.parent / "build" / "gallery-cache"))

warnings.filterwarnings("ignore", message=".torch.jit.script", category=FutureWarning)

project, author = "potstill", "the authors of potstill"
release = version = potstill.__version__
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "mathml",
    "records",
]
root_doc = "index"
exclude_patterns = ["gallery/*", "_generated/*", "sg_execution_times.rst"]
templates_path = ["_templates"]
nitpicky = False  # docstrings name types of libraries whose inventories lie elsewhere

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

html_theme = "furo"
html_title = f"potstill {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/icon.svg"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False

viewcode_follow_imported_members = False
autosummary_generate = True
highlight_language = "none"  # formulas in docstrings; code says what it is in
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    "ignore-module-all": True,  # what a package re-exports is documented where it is defined
}
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "copyfile_regex": r"",
}
