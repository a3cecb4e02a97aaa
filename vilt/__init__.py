"""ViLT, written to the facts of the official project."""

import warnings

# sacred 0.8 imports pkg_resources, which warns on every start.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
