variable "stages" {
  description = "Stage to its settings: handler, memory_mb, timeout_s, ephemeral_mb."
  type = map(object({
    handler      = string
    memory_mb    = number
    timeout_s    = number
    ephemeral_mb = number
  }))

  validation {
    condition     = toset(keys(var.stages)) == toset(["initialize", "infer", "summarize"])
    error_message = "The stages are initialize, infer and summarize."
  }

  # stages.json is checked here, what a user changes about it in the root as well.
  validation {
    condition = alltrue([
      for stage in values(var.stages) : stage.memory_mb >= 128 && stage.memory_mb <= 10240 &&
      stage.timeout_s >= 1 && stage.timeout_s <= 900 && stage.ephemeral_mb >= 512 && stage.ephemeral_mb <= 10240
    ])
    error_message = "Lambda has memory_mb from 128 to 10,240, timeout_s up to 900 and ephemeral_mb from 512 to 10,240."
  }
}

variable "function_names" {
  description = "Stage to the name of its function."
  type        = map(string)

  validation {
    condition     = alltrue([for name in values(var.function_names) : can(regex("^[A-Za-z0-9_-]{1,64}$", name))])
    error_message = "A function's name has at most 64 letters, digits, hyphens and underscores."
  }
}

variable "log_groups" {
  description = "Stage to the name of its log group."
  type        = map(string)
}

variable "role_arns" {
  description = "Stage to its role."
  type        = map(string)
}

variable "requester_pays_bucket" {
  description = "Bucket whose reading this account pays; null for none."
  type        = string
  default     = null
}

variable "image_uri" {
  description = "Image by digest; null only while nothing but the registry is made."
  type        = string
}

variable "region" {
  description = "Region of the functions, in which the image must be."
  type        = string
}

variable "code_version" {
  description = "Version of the code in the image."
  type        = string
}

variable "architecture" {
  description = "Processor: x86_64 or arm64."
  type        = string
}

variable "reserved_concurrency" {
  description = "Concurrency kept for Infer; null shares the account's."
  type        = number
  default     = null
}

variable "provisioned_concurrency" {
  description = "Workers of Infer that are kept warm; 0 for none."
  type        = number
  default     = 0
}

variable "snap_start" {
  description = "Whether workers of Infer start from a snapshot."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
}

variable "rendezvous" {
  description = "Where ranks meet: endpoint (host:port) and the ARN of the secret with the server's key; null for none."
  type = object({
    endpoint   = string
    secret_arn = string
  })
  default = null
}

variable "max_concurrency" {
  description = "Ranks that run at the same time."
  type        = number
}

variable "starts_per_s" {
  description = "Ranks that the state machine starts in a second."
  type        = number
}
