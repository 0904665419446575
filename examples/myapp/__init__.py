"""An application of one's own, whose jobs crmd runs."""
