variable "name" {
  description = "Name of the deployment, and namespace of its own metrics."
  type        = string
}

variable "partition" {
  description = "Partition of AWS, such as aws."
  type        = string
  default     = "aws"
}

variable "region" {
  description = "Region of the deployment."
  type        = string
}

variable "stages" {
  description = "Stage to its settings."
  type        = map(object({ handler = string, memory_mb = number, timeout_s = number, ephemeral_mb = number }))
}

variable "architecture" {
  description = "Processor of the functions, for the price."
  type        = string
}

variable "function_names" {
  description = "Stage to function."
  type        = map(string)
}

variable "log_groups" {
  description = "Stage to log group."
  type        = map(string)
}

variable "state_machine_arn" {
  description = "State machine to watch."
  type        = string
}

variable "max_concurrency" {
  description = "Ranks that run at the same time, drawn as a line."
  type        = number
}

variable "alarm_email" {
  description = "Address that alarms are sent to; null for none."
  type        = string
  default     = null
}
