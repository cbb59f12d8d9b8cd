"""Where each node runs and what is fused into what: decided here, in the check stage, and read from the model afterwards."""
