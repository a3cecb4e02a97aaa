"""Eq. 8's scores on disk, for a baseline whose teacher sees the same view of an image every time.

A cache is a folder: ``manifest.json``, which says what the scores were computed from, and one safetensors file with the
scores of every pair's tokens one after the other and, sorted by the pairs' keys, where each pair's scores lie.
``identity`` says what a pair's key and a cache's fingerprints are, ``writer`` builds a cache, ``reader`` reads it in
place of a teacher.

Source: docs/method.md §2, step 1.
"""
