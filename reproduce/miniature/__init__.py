"""The paper's claims in miniature: ``python -m reproduce miniature``. docs/miniature.md"""
