output "host" {
  description = "DNS name of the server."
  value       = var.record == null ? aws_lb.this.dns_name : var.record.name

  precondition {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image_uri))
    error_message = "There is no image of the rendezvous by digest: `make build push` makes one and records it for Terraform."
  }
}

output "port" {
  description = "Port of the server."
  value       = local.port
}

output "secret_arn" {
  description = "Secret with the key that signs names."
  value       = aws_secretsmanager_secret.key.arn
}

output "cluster" {
  description = "ECS cluster of the service."
  value       = aws_ecs_cluster.this.name
}

output "service" {
  description = "ECS service of the server."
  value       = aws_ecs_service.this.name
}

output "log_group" {
  description = "Where the server logs."
  value       = aws_cloudwatch_log_group.this.name
}
