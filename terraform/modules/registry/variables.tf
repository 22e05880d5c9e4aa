variable "name" {
  description = "Name of the repository."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*([._/-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 256
    error_message = "A repository's name has 2 to 256 lower-case letters, digits and single separators."
  }
}

variable "num_images_kept" {
  description = "Images kept; older ones are deleted."
  type        = number
}

variable "reader_arn" {
  description = "Functions that may be made from the images; may end in *. Null for none."
  type        = string
  default     = null
}
