# Every validation of the root refuses what AWS would refuse later, or would accept against every intention. A run holds one bad
# value per variable, and every one of them must be refused. A variable whose validation looks at another one has a run of
# its own: Terraform skips it when the other one is bad. No resource is needed for any of it: the tests run this file on the
# variables alone.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
}

run "values_too_small_are_refused" {
  command = plan

  variables {
    name                             = "ab"
    num_images_kept                  = 0
    role_path                        = "universities"
    permissions_boundary_arn         = "Boundary"
    stages                           = { infer = { memory_mb = 127 } }
    infer_reserved_concurrency       = 0
    max_concurrency                  = 0
    map_tolerated_failure_percentage = -1
    dataset_prefixes                 = []
    runs_expire_after_days           = -1
    old_versions_expire_after_days   = 0
    log_retention_days               = 0
  }

  expect_failures = [var.name, var.num_images_kept, var.role_path, var.permissions_boundary_arn, var.stages, var.infer_reserved_concurrency, var.max_concurrency, var.map_tolerated_failure_percentage, var.dataset_prefixes, var.runs_expire_after_days, var.old_versions_expire_after_days, var.log_retention_days]
}

run "values_too_large_are_refused" {
  command = plan

  variables {
    name                             = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    tags                             = { for n in range(41) : "t${n}" => "v" }
    num_images_kept                  = 1001
    stages                           = { infer = { memory_mb = 10241 } }
    infer_reserved_concurrency       = 10001
    max_concurrency                  = 10001
    map_tolerated_failure_percentage = 101
    runs_expire_after_days           = 36501
    old_versions_expire_after_days   = 36501
    log_retention_days               = 3654
  }

  expect_failures = [var.name, var.tags, var.num_images_kept, var.stages, var.infer_reserved_concurrency, var.max_concurrency, var.map_tolerated_failure_percentage, var.runs_expire_after_days, var.old_versions_expire_after_days, var.log_retention_days]
}

run "fractions_are_refused" {
  command = plan

  variables {
    num_images_kept                = 1.5
    stages                         = { infer = { memory_mb = 512.5 } }
    infer_reserved_concurrency     = 1.5
    max_concurrency                = 1.5
    runs_expire_after_days         = 1.5
    old_versions_expire_after_days = 1.5
    log_retention_days             = 1.5
  }

  expect_failures = [var.num_images_kept, var.stages, var.infer_reserved_concurrency, var.max_concurrency, var.runs_expire_after_days, var.old_versions_expire_after_days, var.log_retention_days]
}

# EXPRESS is none by itself: Infer may run for longer than such a child lives.
run "malformed_values_are_refused" {
  command = plan

  variables {
    name                    = "Upper"
    region                  = "mars"
    tags                    = { "aws:owner" = "me" }
    image_uri               = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference@sha256:abc"
    code_version            = "two words"
    data_bucket             = "s3://sky-survey/"
    data_bucket_kms_key_arn = "alias/sky"
    data_bucket_prefixes    = ["dr17"]
    result_prefixes         = ["runs"]
    alarm_email             = "nobody"
    local_endpoint          = "127.0.0.1"
    map_child_type          = "EXPRESS"
  }

  expect_failures = [var.name, var.region, var.tags, var.image_uri, var.code_version, var.data_bucket, var.data_bucket_kms_key_arn, var.data_bucket_prefixes, var.result_prefixes, var.alarm_email, var.local_endpoint, var.map_child_type]
}

run "unknown_words_are_refused" {
  command = plan

  variables {
    architecture       = "riscv64"
    map_child_type     = "INLINE"
    log_retention_days = 31
  }

  expect_failures = [var.architecture, var.map_child_type, var.log_retention_days]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference:latest"
  }

  expect_failures = [var.image_uri]
}

run "an_image_outside_ecr_a_reserved_name_and_other_values_are_refused" {
  command = plan

  variables {
    image_uri                     = "docker.io/me/redshift-inference@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    name                          = "sthree-photo-z"
    stages                        = { infer = { timeout_s = 901 } }
    dataset_prefixes              = ["datasets"]
    infer_provisioned_concurrency = -1
    data_bucket_prefixes          = ["dr*/"]
    local_endpoint                = "http://10.0.0.1:5000"
  }

  expect_failures = [var.image_uri, var.name, var.stages, var.dataset_prefixes, var.infer_provisioned_concurrency, var.data_bucket_prefixes, var.local_endpoint]
}

run "an_underscore_no_timeout_and_other_values_are_refused" {
  command = plan

  variables {
    name                          = "photo_z"
    stages                        = { infer = { timeout_s = 0 } }
    dataset_prefixes              = ["/datasets/"]
    infer_provisioned_concurrency = 10001
  }

  expect_failures = [var.name, var.stages, var.dataset_prefixes, var.infer_provisioned_concurrency]
}

run "two_hyphens_little_tmp_and_results_in_a_dataset_are_refused" {
  command = plan

  variables {
    name                          = "two--hyphens"
    stages                        = { infer = { ephemeral_mb = 511 } }
    infer_provisioned_concurrency = 1.5
    result_prefixes               = ["datasets/results/"]
  }

  expect_failures = [var.name, var.stages, var.infer_provisioned_concurrency, var.result_prefixes]
}

run "too_much_tmp_and_a_wildcard_in_a_prefix_are_refused" {
  command = plan

  variables {
    stages          = { infer = { ephemeral_mb = 10241 } }
    result_prefixes = ["runs*/"]
  }

  expect_failures = [var.stages, var.result_prefixes]
}

run "an_unknown_stage_and_more_warm_workers_than_reserved_are_refused" {
  command = plan

  variables {
    stages                        = { train = { memory_mb = 512 } }
    infer_reserved_concurrency    = 5
    infer_provisioned_concurrency = 6
  }

  expect_failures = [var.stages, var.infer_provisioned_concurrency]
}

run "a_snapshot_excludes_warm_workers_and_large_disks" {
  command = plan

  variables {
    infer_snap_start              = true
    infer_provisioned_concurrency = 1
    stages                        = { infer = { ephemeral_mb = 1024 } }
  }

  expect_failures = [var.infer_snap_start]
}

run "a_name_too_long_for_its_load_balancer_is_refused" {
  command = plan

  variables {
    rendezvous = true
    name       = "aaaaaaaaaaaaaaaaaaaaaa"
  }

  expect_failures = [var.rendezvous]
}

run "malformed_values_of_the_rendezvous_are_refused" {
  command = plan

  variables {
    rendezvous_image_uri = "rendezvous:latest"
    rendezvous_subnet_id = "vpc-0123456789abcdef0"
    rendezvous_record    = { zone_id = "example.org", name = "meet.example.org" }
  }

  expect_failures = [var.rendezvous_image_uri, var.rendezvous_subnet_id, var.rendezvous_record]
}

run "a_record_without_a_domain_is_refused" {
  command = plan

  variables {
    rendezvous_record = { zone_id = "Z0123456789", name = "meet" }
  }

  expect_failures = [var.rendezvous_record]
}
