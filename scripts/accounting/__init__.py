"""What runs cost and what their workers printed."""
