"""Settings of the documentation: `make docs` builds it into docs/_build."""

from glassnet import __version__

project = "glassnet"
release = __version__
extensions = ["myst_parser", "sphinx-mathjax-offline"]  # formulas without a network
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = f"glassnet {release}"
html_show_copyright = False
exclude_patterns = ["_build"]
