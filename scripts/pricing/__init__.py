"""What a run costs at list prices: before it, after it, and at other settings."""
