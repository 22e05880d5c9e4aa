variable "name" {
  description = "Name of the deployment."
  type        = string

  validation {
    condition     = length("${var.name}-rendezvous") <= 32
    error_message = "Load balancers have names of at most 32 characters: with a rendezvous, the deployment's name has at most 21."
  }
}

variable "partition" {
  description = "Partition of AWS."
  type        = string
}

variable "region" {
  description = "Region."
  type        = string
}

variable "account_id" {
  description = "Account."
  type        = string
}

variable "image_uri" {
  description = "Image of the server, by digest; null only while nothing but its registry is made."
  type        = string
}

variable "repository_arn" {
  description = "Registry that the image is in."
  type        = string
}

variable "architecture" {
  description = "Processor of the task: x86_64 or arm64."
  type        = string
}

variable "subnet_id" {
  description = "Existing public subnet; null makes a network of its own."
  type        = string
}

variable "record" {
  description = "Route 53 record that leads to the server: zone_id and name; null for none."
  type = object({
    zone_id = string
    name    = string
  })
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
}

variable "alarm_actions" {
  description = "ARNs that are notified when the server does not answer."
  type        = list(string)
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
