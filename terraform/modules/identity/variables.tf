variable "name" {
  description = "Name of the deployment."
  type        = string
}

variable "partition" {
  description = "Partition of AWS, such as aws."
  type        = string
}

variable "region" {
  description = "Region of the deployment."
  type        = string
}

variable "account_id" {
  description = "Account of the deployment."
  type        = string
}

variable "function_names" {
  description = "Stage to function."
  type        = map(string)

  # "-" and a region of at most 14 characters follow.
  validation {
    condition     = alltrue([for name in values(var.function_names) : can(regex("^[A-Za-z0-9_-]{1,49}$", name))])
    error_message = "A role's name has at most 64 characters, the region included."
  }
}

variable "log_groups" {
  description = "Stage to log group."
  type        = map(string)
}

variable "state_machine_name" {
  description = "Name of the state machine."
  type        = string
}

variable "bucket_arn" {
  description = "Bucket of datasets and results."
  type        = string
}

variable "dataset_prefixes" {
  description = "Prefixes of datasets in the bucket; read, never written."
  type        = list(string)
}

variable "result_prefixes" {
  description = "Where in the bucket runs may store results."
  type        = list(string)
}

variable "data_bucket_arn" {
  description = "Existing bucket that is only read; null for none."
  type        = string
  default     = null
}

variable "data_bucket_key_arn" {
  description = "Key of KMS that the existing bucket is encrypted with; null for none."
  type        = string
  default     = null
}

variable "data_bucket_prefixes" {
  description = "Where in the existing bucket; empty for all of it."
  type        = list(string)
  default     = []
}

variable "has_rendezvous" {
  description = "Whether Initialize reads the key of the server at which ranks meet."
  type        = bool
  default     = false
}

variable "rendezvous_secret_arn" {
  description = "Secret with that key; null for none."
  type        = string
  default     = null
}

variable "role_path" {
  description = "Path of the roles."
  type        = string
  default     = "/"
}

variable "permissions_boundary_arn" {
  description = "Policy that limits the roles besides their own; null for none."
  type        = string
  default     = null
}
