"""AWS on one machine: S3, Step Functions and Lambda in one process, with the real Lambda runtime behind it."""
