output "name" {
  description = "Name of the deployment."
  value       = var.name
}

output "region" {
  description = "Region of the deployment."
  value       = local.region
}

output "account_id" {
  description = "Account of the deployment."
  value       = local.account_id
}

output "bucket" {
  description = "Bucket of datasets and results: a request's `bucket`."
  value       = module.storage.bucket
}

output "data_bucket" {
  description = "Existing bucket that datasets may be read from as well: a request's `data_bucket`; null when there is none."
  value       = var.data_bucket
}

output "data_bucket_requester_pays" {
  description = "Whether this account pays for what is read of data_bucket."
  value       = var.data_bucket_requester_pays
}

output "dataset_prefixes" {
  description = "Prefixes of datasets in the bucket."
  value       = var.dataset_prefixes
}

output "result_prefixes" {
  description = "Where in the bucket runs may store results; \"*/\" is anywhere but in a dataset."
  value       = var.result_prefixes
}

output "repository_url" {
  description = "Where images are pushed to."
  value       = module.registry.repository_url
}

output "image_uri" {
  description = "Image of the functions, by digest; null until the first push."
  value       = var.image_uri
}

output "architecture" {
  description = "Processor of the functions: x86_64 or arm64."
  value       = var.architecture
}

output "function_names" {
  description = "Stage to function."
  value       = module.functions.names
}

output "function_arns" {
  description = "Stage to the ARN of its function."
  value       = module.functions.arns
}

output "stages" {
  description = "Stage to its settings as deployed: handler, memory_mb, timeout_s, ephemeral_mb."
  value       = local.stages
}

output "state_machine_arn" {
  description = "State machine that a run is an execution of."
  value       = module.workflow.state_machine_arn
}

output "map_child_type" {
  description = "Kind of child execution per rank, STANDARD or EXPRESS: they are priced differently."
  value       = var.map_child_type
}

output "max_concurrency" {
  description = "Ranks that run at the same time."
  value       = local.max_concurrency

  # Lambda would say it in the middle of an apply: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
  precondition {
    condition = alltrue([
      for quota in data.aws_servicequotas_service_quota.concurrent_executions[*].value :
      quota - var.infer_reserved_concurrency >= 100
    ])
    error_message = "Lambda keeps 100 of the account's concurrent executions (${join("", data.aws_servicequotas_service_quota.concurrent_executions[*].value)}) for functions without a reservation: infer_reserved_concurrency = ${coalesce(var.infer_reserved_concurrency, 0)} leaves fewer. Reserve less, or none (null), or have the quota raised."
  }
}

output "log_groups" {
  description = "Where the stages and the state machine log: initialize, infer, summarize, state_machine."
  value       = merge(module.functions.log_groups, { state_machine = module.workflow.log_group })
}

output "dashboard_url" {
  description = "Dashboard: how the runs are going, what they cost, what failed."
  value       = module.dashboard.url
}

output "alarm_topic_arn" {
  description = "Topic that alarms are sent to; null without alarm_email."
  value       = module.dashboard.alarm_topic_arn
}

output "rendezvous_repository_url" {
  description = "Where images of the rendezvous are pushed to; null without one."
  value       = one(module.rendezvous_registry[*].repository_url)
}

output "rendezvous" {
  description = "Where ranks meet: host, port, secret_arn, cluster, service, log_group; null without `rendezvous = true`."
  value       = one(module.rendezvous[*])
}
