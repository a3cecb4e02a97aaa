"""The launchers of METER and ViLT: sacred, ``loss_names``, Arrow tables. Ends in the settings of the engine."""

import warnings

# Sacred asks setuptools for it, which says so to every user of every command.
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
