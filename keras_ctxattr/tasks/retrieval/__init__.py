"""Retrieval by Hamming distance."""
