# A role is of use once its policy is attached: whoever takes the ARN waits for that.

output "stage_role_arns" {
  description = "Stage to role."
  value       = { for stage, role in aws_iam_role.stage : stage => role.arn }
  depends_on  = [aws_iam_role_policy.stage]
}

output "state_machine_role_arn" {
  description = "Role of the state machine."
  value       = aws_iam_role.state_machine.arn
  depends_on  = [aws_iam_role_policy.state_machine]
}
