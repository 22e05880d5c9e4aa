"""What every command shares: variables, errors with their exit status, progress, files written whole."""
