"""How fast, beside what: paired measurements for `make bench`, never part of pass or fail."""
