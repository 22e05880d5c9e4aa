"""What the functions of a run printed: from a folder, CloudWatch or an export, to lines, invocations and a table."""
