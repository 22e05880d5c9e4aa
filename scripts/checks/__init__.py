"""What `make doctor` looks at before anything is spent: this machine, the run that is asked for, the account."""
