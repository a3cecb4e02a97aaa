"""Data: official raw layouts (``raw``) -> neutral records -> Arrow tables (``arrow``) or JSON lists (``json``).

``conversion`` is what writing either format has in common. The files beside the folders are what reading has in common:
images, transforms, tokenizers, masking, collation, sampling.
"""
