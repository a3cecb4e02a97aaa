"""Losses as functions of tensors: no model, no configuration, no logging."""
