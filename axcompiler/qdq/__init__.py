"""From a QDQ model to the fused graph: what runs on the AIPU is lowered, the rest is cut into islands."""
