"""The deployment in an account: what Terraform says about it, how to reach it, what its errors mean."""
