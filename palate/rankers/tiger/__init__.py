"""TIGER: a decoder writes the semantic id of the next item, code by code."""
