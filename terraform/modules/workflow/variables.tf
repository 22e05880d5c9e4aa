variable "name" {
  description = "Name of the state machine."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,80}$", var.name))
    error_message = "A state machine's name has at most 80 letters, digits, hyphens and underscores."
  }
}

variable "definition_path" {
  description = "File of the state machine, with placeholders."
  type        = string
}

variable "role_arn" {
  description = "Role of the state machine."
  type        = string
}

variable "function_arns" {
  description = "Stage to the ARN that is invoked."
  type        = object({ initialize = string, infer = string, summarize = string })
}

variable "timeouts_s" {
  description = "Stage to its function's timeout."
  type        = object({ initialize = number, infer = number, summarize = number })
}

variable "child_type" {
  description = "STANDARD or EXPRESS."
  type        = string
}

variable "tolerated_failure_percentage" {
  description = "Share of failed ranks above which no more are started."
  type        = number
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
}
