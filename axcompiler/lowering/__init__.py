"""The fused graph under construction: what the operators' lowerings write to."""
