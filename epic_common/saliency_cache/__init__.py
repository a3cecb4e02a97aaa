"""Eq. 8's scores on disk, written once and read instead of a teacher."""
