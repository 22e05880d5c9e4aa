locals {
  consoles = {
    aws        = "${var.region}.console.aws.amazon.com"
    aws-cn     = "console.amazonaws.cn"
    aws-us-gov = "console.amazonaws-us-gov.com"
    aws-eusc   = "${var.region}.console.amazonaws-eusc.eu"
  }
}

output "url" {
  description = "The dashboard in the console."
  value       = "https://${lookup(local.consoles, var.partition, "console")}/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "alarm_topic_arn" {
  description = "Topic that alarms are sent to; null without an address."
  value       = one(aws_sns_topic.this[*].arn)
}
