"""The paper's figures for any checkpoint of any baseline: ``python -m reproduce figure 2a|2b|4|5``."""
