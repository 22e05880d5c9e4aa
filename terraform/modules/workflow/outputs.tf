output "state_machine_arn" {
  description = "ARN of the state machine."
  value       = aws_sfn_state_machine.this.arn
}

output "log_group" {
  description = "Where the state machine logs what failed."
  value       = aws_cloudwatch_log_group.this.name
}
