"""Schemas of configurations, whatever the command line or file that they come from."""
