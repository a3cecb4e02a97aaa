"""EPIC for a checkout of the official code, or a fork of it: a few inserted lines, one support file, ``epic_common``.

Needs Python 3.10 alone: neither git nor anything that a baseline installs.
"""
