"""Kinds of sinks, one module each, found by looking here."""
