"""The three Lambda functions of the state machine, and the two edges they share: storage and settings."""
