"""What a run or a sweep found: numbers with intervals, figures, HTML, Markdown."""
