"""Rendered scenes with captions and complete ground truth: the data of the demo and of the tests.

Read in this order: `model` (what a scene, a claim and a caption are), `statistics` (how often what occurs),
`sampling`, `grammar`, `truths`, `draw`, `coco_layout`.
"""
