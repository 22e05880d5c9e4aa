"""Ranks that talk to each other: where they meet, how they prove who they are, and what they say."""
