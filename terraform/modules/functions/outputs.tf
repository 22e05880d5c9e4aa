output "names" {
  description = "Stage to function."
  value       = { for stage, function in aws_lambda_function.this : stage => function.function_name }
}

output "arns" {
  description = "Stage to the ARN of its function."
  value       = { for stage, function in aws_lambda_function.this : stage => function.arn }
  # Warm before the first rank.
  depends_on = [aws_lambda_provisioned_concurrency_config.this]

  # Here and not at the resource, where each of the three functions would say it again.
  precondition {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image_uri))
    error_message = "There is no image by digest: `make push` pushes one and records it for Terraform."
  }

  precondition {
    condition     = var.image_uri == null ? true : strcontains(var.image_uri, ".dkr.ecr.${var.region}.")
    error_message = "The image is not in ${var.region}, and Lambda reads images of its own region only: `make push` pushes it there."
  }
}

output "log_groups" {
  description = "Stage to its log group."
  value       = { for stage, group in aws_cloudwatch_log_group.this : stage => group.name }
}
