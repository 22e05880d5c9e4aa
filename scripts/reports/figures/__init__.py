"""What is drawn: for each plot a pure half (the numbers) and a thin half that hands them to matplotlib."""
