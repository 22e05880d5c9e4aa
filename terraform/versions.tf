terraform {
  # 1.11: the S3 backend locks its state natively (use_lockfile).
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    # Pinned here and not by .terraform.lock.hcl: see "Decisions" in README.md.
    aws = {
      source  = "hashicorp/aws"
      version = "5.100.0"
    }
  }
}
