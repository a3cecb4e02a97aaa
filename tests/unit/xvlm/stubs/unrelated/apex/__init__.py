"""PyPI's apex, another project: none of NVIDIA's parts are here."""
