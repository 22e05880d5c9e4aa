"""What is deployed on AWS: Terraform, the stack, the account, the container image."""
