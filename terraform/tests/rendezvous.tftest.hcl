# The server at which ranks meet: its variants, and what is refused about it. As a whole it is applied to the local AWS by
# tests/integration/test_terraform_deployment.py.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  rendezvous_image_uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/redshift-inference-rendezvous@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
}

# The module by itself: what is inside it can be seen.
run "an_existing_subnet_takes_the_place_of_a_network" {
  module {
    source = "./modules/rendezvous"
  }

  variables {
    name               = "x"
    partition          = "aws"
    region             = "us-east-1"
    account_id         = "123456789012"
    repository_arn     = "arn:aws:ecr:us-east-1:123456789012:repository/x"
    architecture       = "arm64"
    image_uri          = var.rendezvous_image_uri
    subnet_id          = "subnet-0123456789abcdef0"
    record             = { zone_id = "Z0123456789", name = "meet.example.org" }
    log_retention_days = 30
    alarm_actions      = []
  }

  assert {
    condition     = length(aws_vpc.this) == 0 && aws_ecs_service.this.network_configuration[0].subnets == toset(["subnet-0123456789abcdef0"])
    error_message = "The task runs in the subnet that was given."
  }

  assert {
    condition     = aws_security_group.task.vpc_id == data.aws_subnet.given[0].vpc_id
    error_message = "The network is that of the subnet."
  }

  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64"
    error_message = "The task runs on the processor that the image is for."
  }

  assert {
    condition     = aws_route53_record.this[0].name == "meet.example.org" && output.host == "meet.example.org"
    error_message = "Ranks meet under the name of the record."
  }

  # What the local AWS does not keep.
  assert {
    condition     = aws_ecs_service.this.deployment_maximum_percent == 100 && aws_ecs_service.this.deployment_minimum_healthy_percent == 0
    error_message = "There is never a second task: the two ranks of a pair must come to the same."
  }
}

run "a_rendezvous_without_an_image_is_refused" {
  command = plan

  module {
    source = "./modules/rendezvous"
  }

  variables {
    name               = "x"
    partition          = "aws"
    region             = "us-east-1"
    account_id         = "123456789012"
    repository_arn     = "arn:aws:ecr:us-east-1:123456789012:repository/x"
    architecture       = "arm64"
    image_uri          = null
    subnet_id          = "subnet-0123456789abcdef0"
    record             = null
    log_retention_days = 30
    alarm_actions      = []
  }

  expect_failures = [output.host]
}
