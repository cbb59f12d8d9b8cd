"""Kinds of sources, one module each, found by looking here."""
