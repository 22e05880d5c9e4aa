# The root with nothing but images, with everything that is optional, and with more than an account can give.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  image_uri            = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
  rendezvous_image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference-rendezvous@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
}

run "defaults_deploy_the_table_of_stages" {
  assert {
    condition     = output.stages == jsondecode(file("stages.json"))
    error_message = "Without variables, stages.json is what is deployed."
  }

  assert {
    condition     = output.function_names.infer == "redshift-inference-infer"
    error_message = "A function is named after the deployment and its stage."
  }

  assert {
    condition     = output.bucket == module.storage.bucket && output.region == "us-east-1"
    error_message = "The outputs say where things are."
  }

  assert {
    condition     = length(output.log_groups) == 4 && output.alarm_topic_arn == null && output.data_bucket == null
    error_message = "Three stages and the state machine log; the rest is optional."
  }

  assert {
    condition     = output.rendezvous == null && output.rendezvous_repository_url == null
    error_message = "What costs while idle is made only when it is asked for."
  }
}

run "what_is_changed_is_changed_alone" {
  command = plan

  variables {
    stages                     = { infer = { memory_mb = 3008 } }
    max_concurrency            = 500
    infer_reserved_concurrency = 50
  }

  assert {
    condition     = output.stages.infer.memory_mb == 3008 && output.stages.infer.timeout_s == jsondecode(file("stages.json")).infer.timeout_s
    error_message = "What a stage is not given stays as in stages.json."
  }

  assert {
    condition     = output.stages.summarize == jsondecode(file("stages.json")).summarize
    error_message = "Other stages stay as they are."
  }

  assert {
    condition     = output.max_concurrency == 50
    error_message = "More ranks at a time than Infer may have would only be throttled."
  }
}

run "everything_optional_at_once" {
  variables {
    name                             = "all"
    architecture                     = "arm64"
    stages                           = { infer = { memory_mb = 10240, timeout_s = 140, ephemeral_mb = 10240 } }
    infer_reserved_concurrency       = 100
    infer_provisioned_concurrency    = 10
    map_child_type                   = "EXPRESS"
    map_tolerated_failure_percentage = 12.5
    data_bucket                      = "sky-survey"
    data_bucket_prefixes             = ["dr17/"]
    result_prefixes                  = ["runs/", "results/"]
    runs_expire_after_days           = 0
    alarm_email                      = "astronomer@example.org"
    tags                             = { team = "photo-z" }
  }

  assert {
    condition     = output.alarm_topic_arn != null && output.data_bucket == "sky-survey"
    error_message = "The topic is made and the data bucket handed on."
  }
}

# Lambda keeps 100 executions free for functions without a reservation, and refuses in the middle of an apply what leaves less:
# a new account, which has 10, can reserve none.
run "more_than_a_new_account_can_reserve_is_refused_before_anything_is_made" {
  command = plan

  variables {
    infer_reserved_concurrency = 5
  }

  override_data {
    target = data.aws_servicequotas_service_quota.concurrent_executions
    values = { value = 10 }
  }

  expect_failures = [output.max_concurrency]
}

run "more_than_an_old_account_can_reserve_is_refused_before_anything_is_made" {
  command = plan

  variables {
    infer_reserved_concurrency = 901
  }

  expect_failures = [output.max_concurrency]
}
