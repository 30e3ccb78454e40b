"""Settings of the documentation: `make docs` builds it into docs/_build."""

from glassnet import __version__

project = "glassnet"
release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
html_theme = "furo"
html_title = f"glassnet {release}"
exclude_patterns = ["_build"]
