# The deployment: a bucket, one image, three functions, the state machine over them, what watches it, and on demand the
# server at which ranks meet.

provider "aws" {
  region = var.region

  default_tags {
    tags = merge(var.tags, { project = "serverless-redshift-inference", deployment = var.name })
  }

  # Only in rehearsals against a local AWS, to which AWS_ENDPOINT_URL leads: of a block of endpoints the provider writes
  # out all services for each of them, seconds per command. The number is that of no real account: none is ever touched.
  s3_use_path_style           = var.local_endpoint != null
  skip_credentials_validation = var.local_endpoint != null
  skip_metadata_api_check     = var.local_endpoint != null
  max_retries                 = var.local_endpoint == null ? null : 2
  allowed_account_ids         = var.local_endpoint == null ? null : ["123456789012"]
}

# Read only where something is reserved, so that nobody else needs the permission; a rehearsal has no quotas.
data "aws_servicequotas_service_quota" "concurrent_executions" {
  count = var.infer_reserved_concurrency != null && var.local_endpoint == null ? 1 : 0

  service_code = "lambda"
  quota_code   = "L-B99A9384"
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  region     = data.aws_region.current.name
  account_id = data.aws_caller_identity.current.account_id

  # Roles are made before what they are for, so they know it by name.
  names = {
    functions     = { for stage in keys(local.stages) : stage => "${var.name}-${stage}" }
    log_groups    = { for stage in keys(local.stages) : stage => "/aws/lambda/${var.name}-${stage}" }
    state_machine = var.name
  }

  # More than Infer's own limit would only be throttled.
  max_concurrency = min(var.max_concurrency, coalesce(var.infer_reserved_concurrency, var.max_concurrency))

  # https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
  starts_per_s = var.map_child_type == "EXPRESS" ? 1000 : 100
}

module "storage" {
  source = "./modules/storage"

  bucket_name                    = "${var.name}-${local.account_id}-${local.region}"
  runs_expire_after_days         = var.runs_expire_after_days
  old_versions_expire_after_days = var.old_versions_expire_after_days
}

module "registry" {
  source = "./modules/registry"

  name            = var.name
  num_images_kept = var.num_images_kept
  reader_arn      = "arn:${data.aws_partition.current.partition}:lambda:${local.region}:${local.account_id}:function:${var.name}-*"
}

module "identity" {
  source = "./modules/identity"

  name               = var.name
  partition          = data.aws_partition.current.partition
  region             = local.region
  account_id         = local.account_id
  function_names     = local.names.functions
  log_groups         = local.names.log_groups
  state_machine_name = local.names.state_machine
  bucket_arn         = module.storage.bucket_arn
  dataset_prefixes   = var.dataset_prefixes
  result_prefixes    = var.result_prefixes
  # From the name alone: a bucket of another region or account cannot be asked, and `make doctor` says whether it is there.
  data_bucket_arn      = var.data_bucket == null ? null : "arn:${data.aws_partition.current.partition}:s3:::${var.data_bucket}"
  data_bucket_key_arn  = var.data_bucket_kms_key_arn
  data_bucket_prefixes = var.data_bucket_prefixes

  role_path                = var.role_path
  permissions_boundary_arn = var.permissions_boundary_arn

  has_rendezvous        = var.rendezvous
  rendezvous_secret_arn = one(module.rendezvous[*].secret_arn)
}

module "functions" {
  source = "./modules/functions"

  stages                  = local.stages
  function_names          = local.names.functions
  log_groups              = local.names.log_groups
  role_arns               = module.identity.stage_role_arns
  image_uri               = var.image_uri
  region                  = local.region
  code_version            = var.code_version
  architecture            = var.architecture
  reserved_concurrency    = var.infer_reserved_concurrency
  provisioned_concurrency = var.infer_provisioned_concurrency
  snap_start              = var.infer_snap_start
  log_retention_days      = var.log_retention_days
  requester_pays_bucket   = var.data_bucket_requester_pays ? var.data_bucket : null
  max_concurrency         = local.max_concurrency
  starts_per_s            = local.starts_per_s
  rendezvous              = one([for server in module.rendezvous : { endpoint = "${server.host}:${server.port}", secret_arn = server.secret_arn }])

  # Lambda reads the image when a function is made: the registry must allow it by then.
  depends_on = [module.registry]
}

module "workflow" {
  source = "./modules/workflow"

  name                         = local.names.state_machine
  definition_path              = "${path.module}/state_machine.asl.json"
  role_arn                     = module.identity.state_machine_role_arn
  function_arns                = module.functions.arns
  timeouts_s                   = { for stage, settings in local.stages : stage => settings.timeout_s }
  child_type                   = var.map_child_type
  tolerated_failure_percentage = var.map_tolerated_failure_percentage
  log_retention_days           = var.log_retention_days
}

module "dashboard" {
  source = "./modules/dashboard"

  name              = var.name
  partition         = data.aws_partition.current.partition
  region            = local.region
  stages            = local.stages
  architecture      = var.architecture
  function_names    = module.functions.names
  log_groups        = module.functions.log_groups
  state_machine_arn = module.workflow.state_machine_arn
  max_concurrency   = local.max_concurrency
  alarm_email       = var.alarm_email
}

# ------------------------------------------------------------------------------------------------ on demand: rendezvous

module "rendezvous_registry" {
  source = "./modules/registry"
  count  = var.rendezvous ? 1 : 0

  name            = "${var.name}-rendezvous"
  num_images_kept = var.num_images_kept
}

module "rendezvous" {
  source = "./modules/rendezvous"
  count  = var.rendezvous ? 1 : 0

  name               = var.name
  partition          = data.aws_partition.current.partition
  region             = local.region
  account_id         = local.account_id
  image_uri          = var.rendezvous_image_uri
  repository_arn     = module.rendezvous_registry[0].repository_arn
  architecture       = var.architecture
  subnet_id          = var.rendezvous_subnet_id
  record             = var.rendezvous_record
  log_retention_days = var.log_retention_days
  alarm_actions      = module.dashboard.alarm_topic_arn[*]

  role_path                = var.role_path
  permissions_boundary_arn = var.permissions_boundary_arn
}
