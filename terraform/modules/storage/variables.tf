variable "bucket_name" {
  description = "Name of the bucket, unique among all accounts."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name has 3 to 63 lower-case letters, digits and hyphens."
  }
}

variable "runs_expire_after_days" {
  description = "Days after which objects under runs/ are deleted; 0 keeps them."
  type        = number
}

variable "old_versions_expire_after_days" {
  description = "Days for which overwritten and deleted objects can be brought back."
  type        = number
}
