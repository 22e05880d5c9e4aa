# What an account decides. Everything has a default except the image, which `make push` records in image.auto.tfvars.json.

# --------------------------------------------------------------------------------------------------- where and what

variable "name" {
  description = "Name of the deployment; every name in AWS begins with it."
  type        = string
  default     = "redshift-inference"
  nullable    = false

  # The bucket adds account and region, the roles stage and region: 32 leaves room for both (63 and 64 characters).
  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 32
    error_message = "name has 3 to 32 characters: lower-case letters, digits and single hyphens, beginning with a letter."
  }

  validation {
    condition     = !startswith(var.name, "sthree-") && !startswith(var.name, "amzn-s3-demo-")
    error_message = "S3 reserves names that begin with sthree- or amzn-s3-demo-."
  }
}

variable "region" {
  description = "Region to deploy to; the one of AWS_REGION or of the AWS profile when null."
  type        = string
  default     = null

  validation {
    condition     = var.region == null || can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region is a region's code, such as us-east-1."
  }
}

variable "tags" {
  description = "Tags on everything, in addition to those this configuration sets."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : length(key) <= 128 && length(value) <= 256 && !startswith(lower(key), "aws:")])
    error_message = "A tag's key has at most 128 characters and does not begin with aws:, its value has at most 256."
  }

  validation {
    condition     = length(var.tags) <= 40
    error_message = "AWS takes 50 tags on a resource, some of them are set here: give at most 40."
  }
}

# ---------------------------------------------------------------------------------------------------------- image

variable "image_uri" {
  description = "Image of all three functions, by digest: a tag would hide a new image from the plan. Null only until the first push."
  type        = string
  default     = null

  validation {
    condition     = var.image_uri == null || can(regex("@sha256:[0-9a-f]{64}$", var.image_uri))
    error_message = "image_uri must end in @sha256:HEX, 64 digits; `make push` records it."
  }

  validation {
    condition     = var.image_uri == null || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/", var.image_uri))
    error_message = "Lambda reads images from ECR only: image_uri begins with ACCOUNT.dkr.ecr.REGION.amazonaws.com/."
  }
}

variable "code_version" {
  description = "Version of the code in the image, as every record states it; `make push` records it."
  type        = string
  default     = "unknown"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._+-]{1,128}$", var.code_version))
    error_message = "code_version has 1 to 128 letters, digits, dots, pluses, hyphens and underscores."
  }
}

variable "architecture" {
  description = "Processor of the functions; the image must be built for it (`make build ARCH=…`)."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture is x86_64 or arm64."
  }
}

variable "num_images_kept" {
  description = "Images the registry keeps; older ones are deleted."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.num_images_kept >= 1 && var.num_images_kept <= 1000 && floor(var.num_images_kept) == var.num_images_kept
    error_message = "num_images_kept is a whole number from 1 to 1,000."
  }
}

# ---------------------------------------------------------------------------------------------------------- stages

variable "stages" {
  description = "Changes to stages.json, per stage: { infer = { memory_mb = 3008 } }. What is absent stays."
  type = map(object({
    memory_mb    = optional(number)
    timeout_s    = optional(number)
    ephemeral_mb = optional(number)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for stage in keys(var.stages) : contains(["initialize", "infer", "summarize"], stage)])
    error_message = "stages has the keys initialize, infer and summarize."
  }

  validation {
    condition     = alltrue([for stage in values(var.stages) : stage.memory_mb == null ? true : stage.memory_mb >= 128 && stage.memory_mb <= 10240 && floor(stage.memory_mb) == stage.memory_mb])
    error_message = "memory_mb is a whole number from 128 to 10,240; new accounts are capped at 3,008."
  }

  validation {
    condition     = alltrue([for stage in values(var.stages) : stage.timeout_s == null ? true : stage.timeout_s >= 1 && stage.timeout_s <= 900 && floor(stage.timeout_s) == stage.timeout_s])
    error_message = "timeout_s is a whole number from 1 to 900."
  }

  validation {
    condition     = alltrue([for stage in values(var.stages) : stage.ephemeral_mb == null ? true : stage.ephemeral_mb >= 512 && stage.ephemeral_mb <= 10240 && floor(stage.ephemeral_mb) == stage.ephemeral_mb])
    error_message = "ephemeral_mb is a whole number from 512 to 10,240."
  }
}

variable "infer_reserved_concurrency" {
  description = "Concurrency kept for Infer, and its upper limit; null shares the account's."
  type        = number
  default     = null

  validation {
    condition     = var.infer_reserved_concurrency == null ? true : var.infer_reserved_concurrency >= 1 && var.infer_reserved_concurrency <= 10000 && floor(var.infer_reserved_concurrency) == var.infer_reserved_concurrency
    error_message = "infer_reserved_concurrency is a whole number from 1 to 10,000, or null."
  }
}

variable "infer_provisioned_concurrency" {
  description = "Workers of Infer that are kept warm and billed around the clock; 0 for none."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.infer_provisioned_concurrency >= 0 && var.infer_provisioned_concurrency <= 10000 && floor(var.infer_provisioned_concurrency) == var.infer_provisioned_concurrency
    error_message = "infer_provisioned_concurrency is a whole number from 0 to 10,000."
  }

  validation {
    condition     = var.infer_reserved_concurrency == null ? true : var.infer_provisioned_concurrency <= var.infer_reserved_concurrency
    error_message = "infer_provisioned_concurrency cannot exceed infer_reserved_concurrency."
  }
}

variable "infer_snap_start" {
  description = "Whether workers of Infer start from a snapshot with the engine loaded, which Lambda takes of a published version."
  type        = bool
  default     = false
  nullable    = false

  # https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
  validation {
    condition     = !var.infer_snap_start || var.infer_provisioned_concurrency == 0
    error_message = "Lambda keeps no workers warm that start from a snapshot: infer_snap_start or infer_provisioned_concurrency."
  }

  validation {
    condition     = !var.infer_snap_start || try(coalesce(var.stages.infer.ephemeral_mb, 512), 512) <= 512
    error_message = "Lambda takes no snapshot of a function with more than 512 MB of ephemeral storage: stages.infer.ephemeral_mb = 512."
  }
}

# ---------------------------------------------------------------------------------------------------- state machine

variable "max_concurrency" {
  description = "Ranks that run at the same time; an account begins with 1,000 concurrent executions, a new one with fewer."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.max_concurrency >= 1 && var.max_concurrency <= 10000 && floor(var.max_concurrency) == var.max_concurrency
    error_message = "max_concurrency is a whole number from 1 to 10,000, the most that a Distributed Map runs at a time."
  }
}

variable "map_child_type" {
  description = "Kind of child execution per rank: STANDARD (100 starts per second, any duration) or EXPRESS (1,000 per second, cheaper, at most 5 minutes including retries)."
  type        = string
  default     = "STANDARD"
  nullable    = false

  validation {
    condition     = contains(["STANDARD", "EXPRESS"], var.map_child_type)
    error_message = "map_child_type is STANDARD or EXPRESS."
  }

  validation {
    condition     = var.map_child_type != "EXPRESS" || local.stages.infer.timeout_s < 300
    error_message = "An EXPRESS child ends after 300 s: set stages = { infer = { timeout_s = 140 } } or less, so that one retry fits too."
  }
}

variable "map_tolerated_failure_percentage" {
  description = "Stop starting ranks once more than this share has failed; 100 runs them all. Whether the run then counts as failed is the request's tolerated_failure_percentage."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.map_tolerated_failure_percentage >= 0 && var.map_tolerated_failure_percentage <= 100
    error_message = "map_tolerated_failure_percentage is a percentage from 0 to 100."
  }
}

# ------------------------------------------------------------------------------------------------------------ data

variable "data_bucket" {
  description = "Existing bucket the functions may read datasets from, in addition to their own; it is never written to nor managed here."
  type        = string
  default     = null

  validation {
    condition     = var.data_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.data_bucket))
    error_message = "data_bucket is the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens; no s3:// and no path."
  }
}

variable "data_bucket_kms_key_arn" {
  description = "Key of KMS that data_bucket is encrypted with, where it is not S3's own; its policy must let the functions' roles decrypt. Null for none."
  type        = string
  default     = null

  validation {
    condition     = var.data_bucket_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.data_bucket_kms_key_arn))
    error_message = "data_bucket_kms_key_arn is the ARN of a key: arn:aws:kms:REGION:ACCOUNT:key/ID."
  }
}

variable "data_bucket_requester_pays" {
  description = "Whether this account pays for what is read of data_bucket, as a requester-pays bucket demands."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.data_bucket_requester_pays || var.data_bucket != null
    error_message = "data_bucket_requester_pays is about data_bucket, which is not set."
  }
}

variable "data_bucket_prefixes" {
  description = "Where in data_bucket the functions may read; each ends in /. An empty list stands for all of it."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for prefix in var.data_bucket_prefixes : can(regex("^[^*?/][^*?]*/$", prefix))])
    error_message = "Each of data_bucket_prefixes ends in /, does not begin with one, and holds neither * nor ?."
  }
}

variable "dataset_prefixes" {
  description = "Prefixes of datasets in the deployment's bucket; the functions may read there and never write; each ends in /."
  type        = list(string)
  default     = ["datasets/"]
  nullable    = false

  validation {
    condition     = alltrue([for prefix in var.dataset_prefixes : can(regex("^[^*?/][^*?]*/$", prefix))])
    error_message = "Each of dataset_prefixes ends in /, does not begin with one, and holds neither * nor ?."
  }

  validation {
    condition     = length(var.dataset_prefixes) >= 1
    error_message = "dataset_prefixes names at least one prefix."
  }
}

variable "role_path" {
  description = "Path of the roles, where an organization prescribes one."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.role_path)) && length(var.role_path) <= 512
    error_message = "role_path begins and ends with /."
  }
}

variable "permissions_boundary_arn" {
  description = "Policy that limits every role besides its own, where an organization prescribes one; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn is the ARN of a policy: arn:aws:iam::ACCOUNT:policy/NAME."
  }
}

variable "result_prefixes" {
  description = "Where in the deployment's bucket runs may store results (a request's result_path); each ends in /. The default \"*/\" is anywhere but dataset_prefixes."
  type        = list(string)
  default     = ["*/"]
  nullable    = false

  validation {
    condition     = alltrue([for prefix in var.result_prefixes : can(regex("^([*]|[^*?/][^*?]*)/$", prefix))])
    error_message = "Each of result_prefixes ends in / and does not begin with one; the only wildcard is the whole \"*/\"."
  }

  validation {
    condition     = alltrue([for pair in setproduct(var.result_prefixes, var.dataset_prefixes) : !startswith(pair[0], pair[1])])
    error_message = "No result prefix is inside a dataset prefix: datasets are never written to."
  }
}

variable "runs_expire_after_days" {
  description = "Days after which objects under runs/ are deleted; 0 keeps them. Results under another result_path are always kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.runs_expire_after_days >= 0 && var.runs_expire_after_days <= 36500 && floor(var.runs_expire_after_days) == var.runs_expire_after_days
    error_message = "runs_expire_after_days is a whole number of days, 0 for never."
  }
}

variable "old_versions_expire_after_days" {
  description = "Days for which overwritten and deleted objects can be brought back."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.old_versions_expire_after_days >= 1 && var.old_versions_expire_after_days <= 36500 && floor(var.old_versions_expire_after_days) == var.old_versions_expire_after_days
    error_message = "old_versions_expire_after_days is a whole number of days, at least 1."
  }
}

# ----------------------------------------------------------------------------------------------------- rendezvous

variable "rendezvous" {
  description = "Whether to deploy the server at which ranks meet; about 33 USD a month while it is there."
  type        = bool
  default     = false
  nullable    = false

  # The load balancer adds "-rendezvous" and has names of at most 32 characters.
  validation {
    condition     = !var.rendezvous || length(var.name) <= 21
    error_message = "With a rendezvous, name has at most 21 characters."
  }
}

variable "rendezvous_image_uri" {
  description = "Image of the rendezvous, by digest; `make build push` records it."
  type        = string
  default     = null

  validation {
    condition     = var.rendezvous_image_uri == null || can(regex("@sha256:[0-9a-f]{64}$", var.rendezvous_image_uri))
    error_message = "rendezvous_image_uri must end in @sha256:HEX, 64 digits; `make build push` records it."
  }
}

variable "rendezvous_subnet_id" {
  description = "Existing public subnet for the rendezvous, in a zone with Fargate; null makes a network for it."
  type        = string
  default     = null

  validation {
    condition     = var.rendezvous_subnet_id == null || can(regex("^subnet-[0-9a-f]{8,17}$", var.rendezvous_subnet_id))
    error_message = "rendezvous_subnet_id is a subnet's id, subnet-HEX."
  }
}

variable "rendezvous_record" {
  description = "Route 53 record to make for the rendezvous, in a zone that exists: { zone_id, name }; null for none."
  type = object({
    zone_id = string
    name    = string
  })
  default = null

  validation {
    condition     = var.rendezvous_record == null ? true : can(regex("^Z[A-Z0-9]+$", var.rendezvous_record.zone_id)) && can(regex("^([a-z0-9_]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.rendezvous_record.name))
    error_message = "rendezvous_record has the id of a hosted zone, Z…, and a full name such as meet.example.org."
  }
}

# ------------------------------------------------------------------------------------------------------- watching

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "alarm_email" {
  description = "Address that alarms are sent to, once its owner has confirmed AWS's first mail; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email is an e-mail address."
  }
}

# ------------------------------------------------------------------------------------------------------- rehearsal

variable "local_endpoint" {
  description = "Address of a local AWS such as `make emulate` serves, http://127.0.0.1:PORT, which AWS_ENDPOINT_URL says too; null for the real one. No real account is touched while it is set."
  type        = string
  default     = null

  validation {
    condition     = var.local_endpoint == null || can(regex("^http://(127\\.0\\.0\\.1|localhost):[0-9]+$", var.local_endpoint))
    error_message = "local_endpoint is http://127.0.0.1:PORT, nothing beyond this machine."
  }
}
